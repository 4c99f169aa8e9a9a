"""Processes that torchrun starts share a stage: what they write is what one process writes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from stand_ins import owner
from test_sitting import WHOLE, counted, sets, settings  # noqa: F401 (a fixture)

from ue_audit import cli, evaluate, manifest, ranks, statement, together
from ue_audit.errors import UsageError
from ue_audit.tools import Tools

HERE = Path(__file__).parent
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
BOUND = 240  # seconds; what hangs fails


def environment():
    paths = [str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}


def started(*words, count=1, cwd=None):
    """A command line or script in `count` processes, of torchrun if there are several."""
    several = (*TORCHRUN, str(count)) if count > 1 else ()
    return subprocess.Popen(
        [sys.executable, *several, *map(str, words)],
        env=environment(), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(process):
    """Exit code and all that was said."""
    out, err = process.communicate(timeout=BOUND)
    return process.returncode, out + err


def ran(*words, count=1, cwd=None):
    code, said = ended(started("-m", "ue_audit", *words, count=count, cwd=cwd))
    assert code == 0, said
    return said


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set, protected by a method that costs nothing."""
    place = tmp_path_factory.mktemp("ranks")
    owner(place / "data", size=16, each=6)
    ran("protect", "--method", "lsp", "-o", "data.lsp", "data", "-q", cwd=place)
    return place


def asked(output):
    return ("evaluate", "--set", "epochs=2", "--seeds", "2", "-o", output, "data", "data.lsp")


@pytest.fixture(scope="module")
def one(data):
    """The evaluation by one process, unbroken."""
    ran(*asked("one.eval"), cwd=data)
    return data / "one.eval"


def killed(output, count):
    """An evaluation whose first process is killed when a training is recorded; torchrun ends the others."""
    process = started("-m", "ue_audit", *asked(output.name), count=count, cwd=output.parent)
    journal, deadline = output / "ue-audit.journal", time.monotonic() + BOUND
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 1):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(json.loads(output.with_name(f"{output.name}.lock").read_bytes())["pid"], signal.SIGKILL)
    assert ended(process)[0] != 0 and not (output / statement.MANIFEST).exists()


@pytest.mark.skipif(os.name != "posix", reason="kills")
@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_killed_it_goes_on_with_another_number_and_writes_the_records_of_one(data, one, first, then):
    output = data / f"{first}.{then}.eval"
    killed(output, first)
    said = ran(*asked(output.name), count=then, cwd=data)
    assert (one / statement.RECORDS).read_bytes() == (output / statement.RECORDS).read_bytes()
    assert manifest.read(one).parameters == manifest.read(output).parameters
    assert said.count("last accuracy on train ") == 1, "one process speaks"


def test_what_is_sealed_is_up_to_date_for_several(data, one):
    assert "up to date" in ran(*asked(one.name), count=2, cwd=data)


def test_seeds_are_added_as_by_one_process(sets):  # noqa: F811
    """Two rounds after the first: an answer of one must not be taken for that of another."""
    alone = evaluate.run(settings(sets, output=sets / "one.eval"))
    options = ("--learner", "stand_ins.fooled", "--set", "purified=0.7", "--seeds", "3", "--max-seeds", "5")
    ran("evaluate", *options, "-o", "two.eval", "data.maps.grey", "data.grey", count=2, cwd=sets)
    two = sets / "two.eval"
    assert counted(two) == WHOLE
    assert (two / statement.RECORDS).read_bytes() == (alone / statement.RECORDS).read_bytes()
    assert manifest.read(two).notes == manifest.read(alone).notes


def test_a_prior_is_that_of_one_process_up_to_the_order_of_sums(tmp_path):
    for count, cuts in ((1, (99,)), (2, (4, 99))):  # two processes are cut off, and go on
        (tmp_path / str(count)).mkdir()
        for cut in cuts:
            code, said = ended(started(HERE / "in_step.py", tmp_path / str(count), cut, count=count))
            assert code == 0, said
    one, first, second = (torch.load(tmp_path / path, weights_only=True) for path in ("1/0.pt", "2/0.pt", "2/1.pt"))
    assert all(torch.equal(weight, second["weights"][key]) for key, weight in first["weights"].items())
    assert first["notes"]["curve"] == second["notes"]["curve"]
    for key, weight in one["weights"].items():
        torch.testing.assert_close(first["weights"][key], weight, rtol=1e-3, atol=2e-5)
    psnr = ([point["0.05"] for point in found["notes"]["curve"]] for found in (one, first))
    assert next(psnr) == pytest.approx(next(psnr), abs=1e-3)


def test_train_prior_seals_once_for_all(data):
    options = ("--preset", "tiny", "--set", "steps=4", "--set", "check_every=2", "--set", "batch=5")
    said = ran("train-prior", *options, "-o", "two.ckpt", "data/raw", count=2, cwd=data)
    assert said.count("next: ue-audit purify") == 1
    assert json.loads((data / "two.ckpt.ue-audit.json").read_bytes())
    assert not (data / "two.ckpt.work").exists()


def test_a_process_that_fails_ends_all(data):
    words = ("evaluate", "--learner", "stand_ins.lonely", "-o", "bad.eval", "--seeds", "2", "data", "data.lsp")
    begun = time.monotonic()
    code, said = ended(started("-m", "ue_audit", *words, count=2, cwd=data))
    assert code != 0 and "not a number, of all things" in said and re.search(r"exitcode +: 70 ", said)
    assert time.monotonic() - begun < BOUND / 2
    assert not (data / "bad.eval" / statement.MANIFEST).exists()


def test_commands_that_cannot_share_are_refused(data):
    code, said = ended(started("-m", "ue_audit", "purify", "--method", "grayscale", "data.lsp", count=2, cwd=data))
    assert code != 0 and "expected one process for purify, found 2" in said and "--shard I/N" in said


def play(monkeypatch, own=1, count=2, beside=2):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    for name, value in zip(ranks.VARIABLES, (own, own, count, beside), strict=True):
        monkeypatch.setenv(name, str(value))


def test_a_rank_is_torchruns_and_no_other(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")  # of a scheduler that starts one process of ours
    assert ranks.check("protect") == (0, 0, 1)
    play(monkeypatch)
    assert ranks.check("evaluate") == (1, 1, 2)
    with pytest.raises(UsageError, match="expected one process for report, found 2"):
        ranks.check("report")
    play(monkeypatch, beside=1)
    with pytest.raises(UsageError, match="on one machine, found 1 of 2"):
        ranks.check("evaluate")


def test_the_first_alone_writes_to_stdout(monkeypatch, capsys):
    for own, documents in ((0, 1), (1, 0)):
        play(monkeypatch, own=own)
        assert cli.main(["report", "--json"]) == 2
        said = capsys.readouterr()
        assert said.out.count('"error"') == documents and ("expected one process" in said.err) == bool(own)


def test_one_process_is_its_own_peer():
    peers = Tools().peers
    part = torch.ones(3)
    peers.add_up([part])
    assert peers.rows(7) == slice(0, 7) and part.tolist() == [1, 1, 1] and peers.agree([0.5]) == [0.5]
    assert together.hands() == ()


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_row_is_some_processes_once(count):
    parts = [list(range(7))[together.Peers(own, count, torch.device("cpu")).rows(7)] for own in range(count)]
    assert sum(parts, []) == list(range(7)) and min(map(len, parts)) > 0


def test_only_the_first_of_the_peers_saves(tmp_path):
    for own in (0, 1):
        tools = Tools(work=tmp_path / str(own), peers=together.Peers(own, 2, torch.device("cpu")))
        tools.save("state", lambda: {"x": 1})
    assert (tmp_path / "0" / "state.state").exists() and not (tmp_path / "1").exists()

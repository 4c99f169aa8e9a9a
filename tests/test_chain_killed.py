"""A whole audit killed five times at random while it trains: report.json is that of an unbroken run, byte for byte."""

import json
import os
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from kill import hooked
from PIL import Image
from stand_ins import owner

from ue_audit import chain, manifest
from ue_audit.audit import AuditSettings, Source
from ue_audit.tools import Tools

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and signals")
KILLS = 5


def steps(folder: Path):
    audit = AuditSettings(
        source=Source(clean=Path("data")),
        protections=[{"method": "stand_ins.maps"}, {"imported": "theirs", "name": "theirs", "set": {"eps": "8/255"}}],
        prior={"file": "unused.ckpt"},
        purifiers=["grayscale", {"method": "stand_ins.grey", "name": "half", "set": {"share": 0.5}}],
        evaluation={"learners": ["stand_ins.centroids"], "seeds": 3, "set": {"epochs": 4}},
    )
    return chain.steps(audit, folder)


@pytest.fixture
def place(tmp_path, monkeypatch, no_sync):
    """Images of 8 px in the working directory, one thread, and a clock that stands, so that reports hold no times."""
    monkeypatch.chdir(tmp_path)
    owner(Path("data"))
    shutil.copytree("data/train", "theirs")
    for number, file in enumerate(sorted(Path("theirs").rglob("*.png"))):
        pixels = np.asarray(Image.open(file)).astype(int) + 8 * (-1) ** number
        Image.fromarray(pixels.astype(np.uint8)).save(file)
    Path("unused.ckpt").write_bytes(b"no purifier here asks for a prior")
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


def test_imported_sets_and_named_purifiers_reach_the_report(place):
    found = json.loads((chain.run(steps(Path("out"))) / "report.json").read_bytes())
    tried = {(attack["protected"], attack["countermeasure"]) for attack in found["countermeasures"]}
    sets = {audit["protected"] for audit in found["audits"]}
    assert "data.theirs" in sets and tried == {(name, how) for name in sets for how in ("grayscale", "half")}
    assert all(attack["ceiling"] is not None for attack in found["countermeasures"])


def killed_in_training(todo, moments: int) -> int | None:
    """Run in a forked child that kills itself after this many moments of the evaluation: changes on disk, and states
    of trainings saved. How many trainings the journal had then; None if the child came to its end."""
    child = os.fork()
    if child == 0:
        left, save = [moments], Tools.save

        def moment(*_):
            if Path("out/data.eval").exists():
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        Tools.save = lambda self, *arguments, **more: (moment(), save(self, *arguments, **more))[1]
        with hooked(moment):
            chain.run(todo)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        return None
    return (Path("out/data.eval") / manifest.JOURNAL).read_bytes().count(b'"shard"')


def test_killed_five_times_at_random_the_report_is_the_same(place):
    chain.run(steps(Path("out")))
    Path("out").rename("whole")
    rng, done = random.Random(20261107), [0]
    for _ in range(KILLS):
        trained = killed_in_training(steps(Path("out")), rng.randrange(4, 60))
        assert trained is not None, "the audit ended before it was killed five times"
        assert trained >= done[-1], "a training that was finished is lost"
        done.append(trained)
    assert 0 < done[-1] < 33 and len(set(done)) > 2
    made = chain.run(steps(Path("out")))
    assert (made / "report.json").read_bytes() == Path("whole/data.report/report.json").read_bytes()
    assert (made / "report.html").read_bytes() == Path("whole/data.report/report.html").read_bytes()

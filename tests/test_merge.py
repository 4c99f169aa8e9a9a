"""merge: the parts of a set become what one process writes, byte for byte, for every kind of purifier."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from kill import changes, killed_runs, refused
from shared_out import SET, merged, parts, purified
from test_shards import same_but_for_run_details
from trees import contents

from ue_audit import cli, evaluate, export, manifest, merge, purify, train_prior
from ue_audit.errors import ResourceError, UsageError
from ue_audit.settings import EvaluateSettings, MergeSettings, PurifySettings, TrainPriorSettings
from ue_audit.statement import render
from ue_audit.tool_settings import ExportSettings

pytest_plugins = ("shared_out",)
pytestmark = pytest.mark.usefixtures("here")

GREY = Path("data.maps.stand_ins.grey")
PRIOR = {"steps": 3, "batch": 4, "check_every": 2}


def taken_away(output: Path) -> dict[str, bytes]:
    """What an output held, which is removed."""
    found = contents(output)
    shutil.rmtree(output)
    return found


def check_same(made: Path, whole: dict[str, bytes]) -> None:
    """Images, records and sums byte for byte, and the manifest but for its run details."""
    assert same_but_for_run_details(contents(made), whole)
    assert manifest.verify(made, chain=True).problems == []


# -- the same bytes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    ["grayscale", "random_noise", "projection", "dvae", "jcdp", "median+jcdp", "grayscale+projection", "jcdp+dvae"],
)
def test_three_parts_are_what_one_process_writes(method):
    """`projection` and `dvae` fit to the whole set, in every part; so does a link of a chain."""
    more = {"method": method}
    if "jcdp" in method:
        asked = TrainPriorSettings(raw=Path("data/raw"), preset="tiny", output=Path("a.ckpt"), layers={"flag": PRIOR})
        more["prior"] = train_prior.run(asked)
    whole = taken_away(purified(**more))
    made = parts(3, **more)
    assert [len(list(part.rglob("*.png"))) for part in made] == [4 + 3, 4, 4]
    check_same(merged(*made), whole)


@pytest.mark.parametrize("count", [1, 2, 6])
def test_any_number_of_parts_also_more_than_there_are_shards(count):
    whole = taken_away(purified())
    made = parts(count)
    assert [part.name for part in made if not list(part.rglob("*.png"))] == [part.name for part in made[4:]]
    assert all(manifest.verify(part, chain=True).problems == [] for part in made)
    check_same(merged(made[-1]), whole)


@pytest.mark.parametrize("source", ["data", "data/train"])
def test_ceilings_and_trials(source):
    more = {"source": Path(source), "limit": 11, "size": 16, "name": "trial"}
    whole = taken_away(purified(**more))
    check_same(merged(*parts(2, **more)), whole)


def test_a_named_output_is_that_of_one_process():
    more = {"output": Path("out/grey")}
    whole = taken_away(purified(**more))
    made = parts(2, **more)
    assert [str(part) for part in made] == ["out/grey.shard-1-of-2", "out/grey.shard-2-of-2"]
    check_same(merged(*made), whole)
    shutil.rmtree("out/grey")
    check_same(merged(*(part.resolve() for part in made)), whole)


def test_parts_that_lie_elsewhere_are_merged_where_asked():
    whole = taken_away(purified())
    one, two = parts(2)
    for part in (one, two):
        Path("far").joinpath(part.name).mkdir(parents=True)
        shutil.move(part, Path("far") / part.name / "moved")
    found = [Path("far") / part.name / "moved" for part in (one, two)]
    with pytest.raises(UsageError, match="NAME.shard-I-of-N"):
        merged(*found)
    made = merged(*found, output=GREY)
    assert manifest.read(made).tree == merged_tree(whole)
    assert manifest.verify(made).problems == []


def merged_tree(files: dict[str, bytes]) -> str:
    return manifest.tree_digest(
        line.split("  ")[::-1]
        for line in files[manifest.SUMS].decode().splitlines()
        if not line[66:].startswith("ue-audit.")
    )


# -- what the manifests say ----------------------------------------------------------------------------------


def test_a_part_says_which_it_is_and_how_to_go_on():
    found = manifest.read(purified("2/3"))
    assert (found.status, found.settings["shard"], found.parameters["shard"]) == ("partial", "2/3", "2/3")
    assert found.counts["taken"] == 15 and found.counts["written"] == found.summary["images purified"] == 4
    assert found.next == f"ue-audit merge {GREY}.shard-2-of-3"


def test_run_details_are_those_of_all_parts():
    runs = [manifest.read(part).run for part in parts(2)]
    found = manifest.read(merged(Path(f"{GREY}.shard-1-of-2")))
    assert found.status == "complete" and found.settings["shard"] is None and "shard" not in found.parameters
    seconds = sum(run.measures["purifying seconds"] for run in runs)
    assert found.run.measures["purifying seconds"] == pytest.approx(seconds, abs=1e-6)
    assert [line["shard"] for line in found.run.measures["merged"]] == ["1/2", "2/2"]
    assert found.run.started == runs[0].started < runs[1].finished < found.run.finished
    assert found.run.seconds >= sum(run.seconds for run in runs)


def test_two_gpus_of_one_machine():
    made = parts(2)
    for number, part in enumerate(made):
        found, device = manifest.read(part), f"cuda:{number}"
        more = {"settings": found.settings | {"device": device}}
        more["run"] = found.run.model_copy(update={"device": device})
        (part / manifest.MANIFEST).write_bytes(render(found.model_copy(update=more)))
    whole = manifest.read(merged(*made))
    assert (whole.run.device, whole.settings["device"]) == ("cuda:0 and cuda:1", "cuda")


# -- stopping and going on -----------------------------------------------------------------------------------


def test_merging_again_and_purifying_again_find_it_up_to_date():
    made = parts(2)
    before = contents(merged(*made))
    assert contents(merged(*made)) == contents(purified()) == before


def test_one_process_that_was_begun_is_completed_by_the_parts():
    count = len(changes(purified))
    whole = taken_away(purified())
    with refused(count // 2, errno.ENOSPC), pytest.raises(ResourceError):
        purified()
    assert (GREY / manifest.JOURNAL).exists() and any(GREY.rglob("*.png"))
    check_same(merged(*parts(2)), whole)


def test_a_folder_of_others_and_a_set_of_other_settings_are_left_alone():
    made = parts(2)
    purified(seed=1)
    before = contents(GREY)
    with pytest.raises(UsageError, match="other settings") as error:
        merged(*made)
    assert error.value.details == ("seed: 1 there, 0 now",) and contents(GREY) == before
    assert manifest.read(merged(*made, fresh=True)).seed == 0
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(UsageError, match="was not made by ue-audit"):
            merged(*made, output=Path("mine"), fresh=fresh)
    assert contents(Path("mine")) == {"thesis.tex": b"years of work"}
    with pytest.raises(UsageError, match="overlap"):
        merged(*made, output=made[0] / "within")


@pytest.fixture
def one_thread():
    """A fork does not inherit the threads of a pool."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.skipif(os.name != "posix", reason="forks and signals")
def test_killed_anywhere_and_run_again_is_the_unbroken_run(one_thread):
    one, two = parts(2)
    runs = {one: lambda: purified("1/2"), GREY: lambda: merged(one, two)}
    for output, run in runs.items():
        shutil.rmtree(output, ignore_errors=True)
        count, unbroken = len(changes(run)), contents(output)
        for k, died in killed_runs(run, sorted({1 + (count - 1) * i // 7 for i in range(8)}), [output]):
            assert died
            run()
            assert manifest.verify(output).problems == [], f"{output} killed at change {k} of {count}"
            assert same_but_for_run_details(contents(output), unbroken), f"{output} killed at change {k} of {count}"


# -- a part is no whole --------------------------------------------------------------------------------------


def test_no_stage_takes_a_part_for_a_whole():
    part, _ = parts(2)
    hint = f"merge it: ue-audit merge {part}"
    takers = [
        lambda: evaluate.run(EvaluateSettings(folders=(Path("data"), SET, part))),
        lambda: evaluate.plan(EvaluateSettings(folders=(part,))),
        lambda: purify.run(PurifySettings(source=part, method="stand_ins.grey")),
        lambda: export.run(ExportSettings(source=part)),
    ]
    before = sorted(Path().rglob("*"))
    for take in takers:
        with pytest.raises(UsageError, match="found part 1/2 of one") as error:
            take()
        assert error.value.hint == hint
    assert sorted(Path().rglob("*")) == before


def test_the_newest_output_is_no_part():
    part, _ = parts(2)
    with pytest.raises(UsageError, match="no complete output of purify") as error:
        manifest.newest("purify")
    assert error.value.hint == f"merge its parts: ue-audit merge {part}"
    whole = merged(part)
    parts(3)
    assert manifest.newest("purify") == whole


# -- plans and commands --------------------------------------------------------------------------------------


def test_plans_write_nothing():
    plan = purify.plan(PurifySettings(source=SET, method="stand_ins.grey", shard="1/3"))
    assert (plan.images, plan.shards, plan.output) == (7, 2, f"{GREY}.shard-1-of-3")
    empty = purify.plan(PurifySettings(source=SET, method="stand_ins.grey", shard="5/5"))
    assert (empty.images, empty.shards, empty.seconds_estimate) == (0, 0, 0)
    made = parts(2)
    before = sorted(Path().rglob("*"))
    plan = merge.plan(MergeSettings(folders=tuple(made)))
    assert (plan.images, plan.classes, plan.shards, plan.output) == (15, 3, 4, str(GREY))
    assert plan.output_bytes == sum(file.stat().st_size for part in made for file in part.rglob("*.png"))
    assert sorted(Path().rglob("*")) == before


def test_the_commands(capsys):
    purify_it = ["purify", "--method", "grayscale", "--shard"]
    for shard in ("1/2", "2/2"):
        assert cli.main([*purify_it, shard, str(SET)]) == 0
    assert "next: ue-audit merge data.maps.grayscale.shard-2-of-2" in capsys.readouterr().out
    assert cli.main(["evaluate", "data.maps.grayscale.shard-1-of-2"]) == 2
    assert "ue-audit merge data.maps.grayscale.shard-1-of-2" in capsys.readouterr().err
    assert cli.main(["merge", "data.maps.grayscale.shard-1-of-2", "data.maps.grayscale.shard-2-of-2"]) == 0
    assert "next: ue-audit evaluate data.maps data.maps.grayscale" in capsys.readouterr().out
    assert cli.main(["verify", "--chain", "data.maps.grayscale", "data.maps.grayscale.shard-1-of-2"]) == 0
    assert cli.main(["merge", "data.maps.grayscale.shard-2-of-2"]) == 0
    assert "up to date" in capsys.readouterr().err


def test_nonsense_is_told_in_a_line(capsys):
    assert cli.main(["purify", "--method", "grayscale", "--shard", "3/2", str(SET)]) == 2
    assert "shard = '3/2' (flag): expected a part I/N, such as 1/4 to 4/4, found '3/2'" in capsys.readouterr().err
    assert cli.main(["merge", "data.maps.grayscale.shard-*-of-2"]) == 2
    assert "found nothing at data.maps.grayscale.shard-*-of-2" in capsys.readouterr().err

"""SIGKILL at the k-th change on disk of every real stage, then the same command again: byte for byte the unbroken run.

At least 20 points over the stages in every run of the tests, all of them with UE_AUDIT_SLOW=1.
"""

import os
import shutil
from pathlib import Path

import pytest
import torch
from kill import beside, changes, killed_runs
from stand_ins import owner
from test_shards import same_but_for_run_details

from ue_audit import evaluate, manifest, protect, purify, report, shards, storage, train_prior
from ue_audit.diffusion import fit
from ue_audit.settings import EvaluateSettings, ProtectSettings, PurifySettings, ReportSettings, TrainPriorSettings

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and signals")
SLOW = os.environ.get("UE_AUDIT_SLOW") == "1"
POINTS = 5  # of each stage, evenly spread, in a short run

EMN = {"min_rounds": 2, "max_rounds": 3, "surrogate_steps": 2, "steps": 1, "batch": 8}
PRIOR = {"steps": 3, "batch": 4, "check_every": 2}

STAGES = {
    "protect": (protect, ProtectSettings(source=Path("data"), layers={"flag": EMN}), "data.emn"),
    "train-prior": (
        train_prior,
        TrainPriorSettings(raw=Path("data/raw"), preset="tiny", output=Path("a.ckpt"), layers={"flag": PRIOR}),
        "a.ckpt",
    ),
    "purify": (purify, PurifySettings(source=Path("data.emn"), prior=Path("a.ckpt")), "data.emn.jcdp"),
    "evaluate": (
        evaluate,
        EvaluateSettings(folders=(Path("data.emn.jcdp"),), seeds=2, layers={"flag": {"epochs": 2, "batch": 8}}),
        "data.eval",
    ),
    "report": (report, ReportSettings(evaluation=Path("data.eval")), "data.report"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A finished audit of 36 images of 16 px, made in the working directory, in shards of a dozen images."""
    here, home = tmp_path_factory.mktemp("killed"), Path.cwd()
    patch = pytest.MonkeyPatch()
    patch.chdir(here)
    patch.setattr(shards, "SHARD_PIXELS", 12 * 16 * 16)
    patch.setattr(storage, "_sync_one", lambda path: None)  # a change as any other, but free of cost
    patch.setattr(storage, "_sync_file_system", lambda folder: True)
    patch.setattr(fit, "CHECKPOINT_SECONDS", 0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a fork does not inherit the threads of a pool
    owner(Path("data"), each=12, size=16)
    for name in STAGES:
        run(name)
    yield here
    torch.set_num_threads(threads)
    patch.undo()
    os.chdir(home)


def run(name):
    module, settings, output = STAGES[name]
    with shards.lock(Path(output)):
        return module.run(settings)


@pytest.mark.parametrize("name", STAGES)
def test_killed_anywhere_and_run_again_is_the_unbroken_run(place, name):
    output = Path(STAGES[name][2])
    for part in beside(output):
        shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
    count = len(changes(lambda: run(name)))
    unbroken = files(output)
    points = range(1, count + 1) if SLOW else sorted({1 + (count - 1) * i // (POINTS - 1) for i in range(POINTS)})
    died = 0
    for k, was_killed in killed_runs(lambda: run(name), points, [output]):
        died += was_killed
        run(name)
        assert manifest.verify(output).problems == [], f"killed at change {k} of {count}"
        assert not any(part.exists() for part in beside(output)[1:4:2] if part.suffix in (".work", ".lock"))
        same = same_but_for_run_details(files(output), unbroken) if output.is_dir() else files(output) == unbroken
        assert same, f"killed at change {k} of {count}"
    print(f"{name}: killed at {died} of {len(points)} points among {count} changes")
    assert died == len(points)


def files(output):
    """What an output holds, by path below it; of one that is a file, its bytes."""
    if output.is_file():
        return {"": output.read_bytes()}
    return {str(p.relative_to(output)): p.read_bytes() for p in sorted(output.rglob("*")) if p.is_file()}

"""What a report knows of the folders it speaks of."""

import shutil

import pytest
import synthetic_evaluation as synthetic
from stand_ins import owner, photos

from ue_audit import background, facts, manifest, protect, shards
from ue_audit.settings import ProtectSettings


@pytest.mark.parametrize(
    ("method", "norm", "largest", "limit", "unit"),
    [
        ("stand_ins.maps", "linf", 8, 8, "levels"),
        ("stand_ins.dot", "l0", 1, 1, "pixels"),
        ("stand_ins.ball", "l2", 0.25, 0.25, "in [0,1] units"),
    ],
)
def test_the_largest_change_beside_the_budget(tmp_path, method, norm, largest, limit, unit):
    owner(tmp_path / "data")
    out = protect.run(ProtectSettings(source=tmp_path / "data", output=tmp_path / "out", method=method))
    found = background.budget(out, manifest.read(out))
    assert (found["norm"], found["unit"], found["kept"]) == (norm, unit, True)
    assert found["largest"] == pytest.approx(largest, rel=0.02) and found["limit"] == pytest.approx(limit)


@pytest.mark.parametrize("role", facts.HELD_OUT)
def test_a_held_out_folder_may_have_the_name_of_a_set(tmp_path, role):
    """It took the place of the clean images in the image sheet and in the provenance."""
    evaluation = synthetic.write(tmp_path)
    made = manifest.read(evaluation)
    photos(tmp_path / "heldout" / "train")
    more = manifest.dependency(role, tmp_path / "heldout" / "train", output=evaluation, digest="7" * 64)
    shutil.rmtree(evaluation)
    work = shards.Work.open(evaluation, {"stage": "evaluate"})
    for record in synthetic.records():
        work.commit(record["key"], {}, [record])
    work.seal(made.model_copy(update={"dependencies": [*made.dependencies, more]}))
    known = facts.gather(evaluation)
    assert known.folders["train"].resolve() == tmp_path / "data" / "train"
    assert known.folders[f"train ({role})"].resolve() == tmp_path / "heldout" / "train"
    rows = {row["name"]: row for row in background.provenance(known)}
    assert rows["train"]["digest"] == "0" * 12 and rows[f"train ({role})"]["digest"] == "7" * 12
    assert rows["data.eval"]["parents"] == list(known.folders)

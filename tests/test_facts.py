"""What a report knows of the folders it speaks of."""

import pytest
from stand_ins import owner

from ue_audit import facts, manifest, protect
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
    found = facts.budget(out, manifest.read(out))
    assert (found["norm"], found["unit"], found["kept"]) == (norm, unit, True)
    assert found["largest"] == pytest.approx(largest, rel=0.02) and found["limit"] == pytest.approx(limit)

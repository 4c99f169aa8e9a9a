"""Every registered protection: the budget on the written bytes, the same bytes from the same seed, inputs untouched."""

import numpy as np
import pytest
from stand_ins import owner

from ue_audit import manifest, methods, protect
from ue_audit.imagefolder import decode
from ue_audit.settings import ProtectSettings

QUICK = {
    "emn": {"min_rounds": 2, "max_rounds": 2, "surrogate_steps": 2, "batch": 8, "steps": 4},
    "emn_class": {"min_rounds": 2, "max_rounds": 2, "surrogate_steps": 2, "batch": 8, "steps": 4},
}


def run(root, name, **more):
    settings = {"source": root / "data", "method": name, "output": root / "out", "fresh": True}
    return protect.run(ProtectSettings(**settings | {"layers": {"flag": QUICK.get(name, {})}} | more))


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.*g"))}


@pytest.mark.parametrize("name", methods.names("protection"))
def test_what_every_protection_promises(name, tmp_path):
    owner(tmp_path / "data", each=6, size=16)
    before = files(tmp_path / "data")
    out = run(tmp_path, name)
    first = files(out)
    assert files(tmp_path / "data") == before
    assert manifest.verify(out, chain=True).problems == []  # budgets are measured again from the pixels
    changes = [
        decode(out / key).pixels.astype(int) - decode(tmp_path / "data" / "train" / key).pixels for key in first
    ]
    assert all(np.abs(change).max() > 0 for change in changes)
    signs = np.concatenate([np.sign(change[change != 0]) for change in changes])
    assert 0.3 < (signs < 0).mean() < 0.7  # nothing is clamped away
    assert files(run(tmp_path, name)) == first
    assert files(run(tmp_path, name, seed=1)) != first

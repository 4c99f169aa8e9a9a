"""A process of its own: its memory is its own, and its failure is told."""

import sys
from pathlib import Path

import numpy as np
import pytest
from trees import image_tree

from ue_audit.benches import child
from ue_audit.errors import AuditError


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system says what it says")
def test_memory_is_that_of_the_child_alone(tmp_path: Path) -> None:
    """This process holds 400 MB; a child that looks at 8 small images does not."""
    held = np.ones(400 * 2**20, np.uint8)
    ended = child.run("ue_audit.benches.plain_files:look", source=str(image_tree(tmp_path)))
    assert held[-1] and ended.peak_memory is not None
    assert 2**22 < ended.peak_memory < 300 * 2**20 < child.peak_memory()
    assert 0 < ended.seconds < 60 and ended.result is None


def test_a_failure_is_told(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="plain_files:look failed") as raised:
        child.run("ue_audit.benches.plain_files:look", source=3)
    assert any("TypeError" in line for line in raised.value.details)

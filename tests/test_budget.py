"""Budgets are measured on whole levels."""

import numpy as np
import pytest

from ue_audit.budget import Budget


@pytest.mark.parametrize("levels", range(12))
def test_linf_is_counted_in_whole_levels(levels: int) -> None:
    x = np.full((4, 4, 3), 100, np.uint8)
    y = x.copy()
    y[1, 2, 0] += levels
    budget = Budget(norm="linf", limit="8/255")
    assert budget.holds(x, y) == (levels <= 8)
    assert budget.measure(x, y) == levels / 255


def test_l2_by_hand_and_its_growth_with_the_image() -> None:
    """3-4-5: changes of 3 and 4 levels have length 5/255. The same length per pixel is allowed at every size."""
    x = np.zeros((32, 32, 3), np.uint8)
    y = x.copy()
    y[0, 0, 0], y[9, 9, 1] = 3, 4
    assert Budget(norm="l2", limit=5 / 255).holds(x, y) and not Budget(norm="l2", limit=4.999 / 255).holds(x, y)
    assert Budget(norm="l2", limit=1).at(32, 32) == 1
    assert Budget(norm="l2", limit=1).at(64, 128) == pytest.approx(8**0.5)
    assert Budget(norm="linf", limit=0.1).at(64, 128) == 0.1


def test_l0_counts_pixels_and_none_holds_always() -> None:
    x = np.zeros((4, 4, 3), np.uint8)
    y = x.copy()
    y[0, 0], y[1, 1, 2] = 255, 1
    assert Budget(norm="l0", limit=2).holds(x, y) and not Budget(norm="l0", limit=1).holds(x, y)
    assert Budget(norm="none").holds(x, 255 - x)

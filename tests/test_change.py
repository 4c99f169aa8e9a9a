"""Changes in whole levels: kept within every norm, measured by hand."""

import numpy as np
import pytest
from trees import brighter, noise

from ue_audit import change
from ue_audit.errors import IntegrityError
from ue_audit.imagefolder import decode
from ue_audit.statement import Budget


def test_figures_by_hand() -> None:
    """Two of four pixels change: by (3, 0, -4) and (0, 12, 0); squares 25 + 144 = 13², over 12 values."""
    x = np.full((2, 2, 3), 100, np.uint8)
    y = x.copy()
    y[0, 0], y[1, 1] = (103, 100, 96), (100, 112, 100)
    found = change.measure(x, y)
    assert (found["linf"], found["changed"]) == (12, 2)
    assert found["l2"] == pytest.approx(13 / 255)
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / (169 / 12)))


def test_equal_images_have_no_psnr() -> None:
    x = noise(0)
    assert change.measure(x, x) == {"linf": 0, "l2": 0.0, "changed": 0, "psnr": None}


@pytest.mark.parametrize("count", [1, 3, 64])
def test_l0_keeps_the_pixels_that_change_most(count: int) -> None:
    x, levels = np.full((8, 8, 3), 100, np.uint8), np.zeros((8, 8, 3))
    levels[..., 0] = np.arange(64).reshape(8, 8)[::-1] + 1
    y = change.quantise(x, levels, Budget(norm="l0", limit=count))
    assert change.measure(x, y)["changed"] == count
    assert change.measure(x, y)["linf"] == 64 and Budget(norm="l0", limit=count).holds(x, y)


@pytest.mark.parametrize(("norm", "limit"), [("l2", 1.0), ("l2", 0.1), ("linf", 8 / 255), ("l0", 3), ("none", 0)])
def test_images_quantised_together_are_each_what_it_is_alone(norm: str, limit: float) -> None:
    budget, rng = Budget(norm=norm, limit=limit), np.random.default_rng(0)
    x = [noise(k) for k in range(6)]
    levels = [(4 * (k + 1) * rng.standard_normal((8, 8, 3))).astype(np.float32) for k in range(5)]
    levels.append(np.zeros((8, 8, 3), np.float32))
    together = change.quantise_all(x, levels, budget)
    assert np.array_equal(together, [change.quantise(*pair, budget) for pair in zip(x, levels, strict=True)])
    assert all(budget.holds(*pair) for pair in zip(x, together, strict=True))


def test_images_of_several_sizes_are_quantised_one_by_one() -> None:
    x = [noise(0), noise(1, 9)]
    found = change.quantise_all(x, [np.full(image.shape, 3.0) for image in x], Budget(norm="none", limit=0))
    assert [image.shape for image in found] == [(8, 8, 3), (9, 9, 3)]


def test_what_is_written_is_what_is_measured() -> None:
    x = noise(1)
    png, written, record = change.encode(x, brighter(x, 5), Budget(norm="linf", limit=8 / 255), "a/1.png")
    assert np.array_equal(decode(png).pixels, written) and record["linf"] == 5
    with pytest.raises(IntegrityError, match=r"a/1\.png"):
        change.encode(x, brighter(x, 9), Budget(norm="linf", limit=8 / 255), "a/1.png")


@pytest.mark.parametrize("pixels", [32**2, 224**2])
def test_small_and_large_images_are_mapped_in_order(pixels):
    with change.mapping(pixels) as each:
        assert list(each(lambda a, b: a - b, range(50), range(0, 100, 2))) == [-n for n in range(50)]

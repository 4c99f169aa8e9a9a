"""Protecting a share: which images, and nothing done to the others."""

import numpy as np
import pytest
import torch

from ue_audit.imagedata import ImageData
from ue_audit.selection import Spread, select


def images(counts: list[int], flat: bool = False) -> ImageData:
    numbers = [k for k, count in enumerate(counts) for _ in range(count)]
    keys = [f"class{k}/{n:03d}.png" for n, k in enumerate(numbers)]
    pixels = np.zeros((len(keys), 8, 8, 3), np.uint8)
    classes = [] if flat else [f"class{k}" for k in range(len(counts))]
    return ImageData(pixels, keys, classes, None if flat else numbers)


@pytest.mark.parametrize(("ratio", "found"), [(1.0, [10, 4, 1]), (0.5, [5, 2, 1]), (0.3, [3, 2, 1]), (0.01, [1, 1, 1])])
def test_every_class_gives_its_share_and_at_least_one(ratio: float, found: list[int]) -> None:
    data = images([10, 4, 1])
    rows = select(data, ratio, seed=0)
    assert data.labels is not None
    assert rows == sorted(rows) and torch.bincount(data.labels[rows]).tolist() == found


def test_a_flat_folder_gives_its_share_of_all() -> None:
    assert len(select(images([7, 3], flat=True), 0.4, seed=0)) == 4


def test_smaller_shares_are_parts_of_larger_ones_and_names_decide() -> None:
    data = images([20, 20])
    few, many = set(select(data, 0.2, 0)), set(select(data, 0.6, 0))
    assert few < many and select(data, 0.2, 1) != sorted(few)
    order = list(reversed(range(40)))
    assert {data.keys[row] for row in few} == {data.take(order).keys[row] for row in select(data.take(order), 0.2, 0)}


def test_rows_that_were_not_chosen_are_left_as_they_are() -> None:
    spread = Spread(lambda rows: (rows + 1.0).view(-1, 1, 1, 1).expand(-1, 3, 4, 4), [1, 3], count=5, size=4)
    assert spread(torch.arange(5))[:, 0, 0, 0].tolist() == [0, 1, 0, 2, 0]
    assert spread(torch.tensor([3, 0]))[:, 2, 3, 3].tolist() == [2, 0]
    assert not spread(torch.tensor([0, 2])).any() and not hasattr(spread, "native")


def test_native_sizes_follow_the_same_choice() -> None:
    class Delta:
        def __call__(self, rows: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(rows), 3, 4, 4)

        def native(self, row: int, x: torch.Tensor) -> torch.Tensor:
            return torch.full_like(x, row + 1.0)

    spread, x = Spread(Delta(), [2], count=3, size=4), torch.zeros(3, 5, 6)
    assert spread.native(2, x).unique().tolist() == [1] and not spread.native(0, x).any()

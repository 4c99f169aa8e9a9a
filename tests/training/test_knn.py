"""Nearest neighbours: the vote by hand and transcribed, how many vote in a small set."""

import math

import pytest
import torch

from ue_audit.training import knn


def test_the_vote_by_hand():
    # The query at 0 degrees; neighbours at 0 (class 0), 60 (class 1), 90 (class 1): cosines 1, 1/2, 0; T = 1/2.
    # k = 2: votes e^2 and e^1; the third neighbour, and class 2, have none. Lengths do not matter.
    bank = torch.tensor([[3.0, 0.0], [0.5, math.sqrt(3) / 2], [0.0, 0.1]])
    logits = knn.votes(torch.tensor([[7.0, 0.0]]), bank, torch.tensor([0, 1, 1]), 3, k=2, temperature=0.5)
    total = math.e**2 + math.e
    assert logits.exp()[0].tolist() == pytest.approx([math.e**2 / total, math.e / total, 0.0], abs=1e-6)
    assert torch.isfinite(logits).all()


def test_the_vote_is_the_formula_one_image_at_a_time():
    generator = torch.Generator().manual_seed(0)
    h, bank = torch.randn(4, 5, generator=generator), torch.randn(30, 5, generator=generator)
    y = torch.arange(30) % 3
    expected = []
    for query in h:
        cosines = [float(query @ other / (query.norm() * other.norm())) for other in bank]
        near = sorted(range(30), key=lambda i: -cosines[i])[:8]
        expected.append([sum(math.exp(cosines[i] / 0.07) for i in near if y[i] == c) for c in range(3)])
    expected = torch.tensor(expected)
    shares = expected / expected.sum(1, keepdim=True)
    assert torch.allclose(knn.votes(h, bank, y, 3, 8, 0.07).exp(), shares, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "classes", "expected"), [(50_000, 10, 200), (2_000, 4, 200), (500, 4, 62), (12, 3, 2), (3, 3, 1)]
)
def test_at_most_half_as_many_neighbours_as_an_average_class_has_images(images, classes, expected):
    assert knn.neighbours(200, images, classes) == expected

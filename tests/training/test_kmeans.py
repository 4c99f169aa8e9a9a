"""K-means: exact centres of well-separated groups, the same ones from the same seed, and never an empty cluster."""

import numpy as np
import pytest
import torch

from ue_audit.tools import Tools
from ue_audit.training import kmeans


def blobs(sizes=(20, 50, 30), apart=10.0, dimensions=5, seed=0):
    """Groups around the multiples of `apart`, of deviation 1; the first rows are the first group's."""
    draw = np.random.default_rng(seed)
    return np.concatenate([apart * i + draw.normal(size=(n, dimensions)) for i, n in enumerate(sizes)]).astype("f4")


def test_finds_the_groups_and_numbers_them_by_size():
    features = blobs()
    centres = kmeans.fit(features, 3, Tools())
    means = [features[20:70].mean(0), features[70:].mean(0), features[:20].mean(0)]
    np.testing.assert_allclose(centres.numpy(), means, rtol=1e-5)
    assert kmeans.nearest(features, centres).tolist() == [2] * 20 + [0] * 50 + [1] * 30


def test_a_fixed_point_of_lloyd():
    """Overlapping groups: every centre is the mean of the rows nearest to it."""
    features = blobs(sizes=(200, 200), apart=0.5)
    centres = kmeans.fit(features, 7, Tools())
    near = kmeans.nearest(features, centres)
    for c in range(7):
        np.testing.assert_allclose(centres[c].numpy(), features[near == c].astype("f8").mean(0), atol=1e-9)


def test_better_than_a_single_start():
    features = blobs(sizes=(10,) * 12, apart=4.0, dimensions=2)
    found = kmeans.fit(features, 12, Tools()).numpy()
    inertia = kmeans._inertia(features.astype("f8"), found)
    once = [
        kmeans._inertia(features.astype("f8"), kmeans._lloyd(features.astype("f8"), seeds, 50))
        for seeds in (kmeans._seeds(features.astype("f8"), 12, Tools(seed=seed), 0) for seed in range(1, 6))
    ]
    assert inertia <= min(once) + 1e-9


def test_equal_seeds_give_equal_centres():
    features = blobs(apart=1.0)
    assert torch.equal(kmeans.fit(features, 6, Tools(seed=3)), kmeans.fit(features.copy(), 6, Tools(seed=3)))


@pytest.mark.parametrize("clusters", [2, 3, 50])
def test_never_more_centres_than_different_rows(clusters):
    features = np.repeat(np.eye(3, dtype="f4"), 4, axis=0)
    centres = kmeans.fit(features, clusters, Tools())
    assert len(centres) == min(clusters, 3)
    assert (torch.bincount(kmeans.nearest(features, centres)) > 0).all()


def test_one_row_is_one_cluster():
    assert kmeans.fit(np.ones((1, 4), "f4"), 10, Tools()).tolist() == [[1.0] * 4]


def test_a_large_set_is_represented_by_drawn_rows(monkeypatch):
    features = blobs()
    monkeypatch.setattr(kmeans, "FIT_ROWS", 30)
    monkeypatch.setattr(kmeans, "ASSIGN_ROWS", 7)
    near = kmeans.nearest(features, kmeans.fit(features, 3, Tools()))
    assert len({(i, int(c)) for i, c in zip([0] * 20 + [1] * 50 + [2] * 30, near, strict=True)}) == 3

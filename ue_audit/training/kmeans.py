"""K-means: centres mu_1..mu_K that bring the sum of squared distances to the nearest one down.

    min over mu:  sum_i min_c |h_i - mu_c|^2

Of several k-means++ starts (scipy's) the best is run on until nothing moves. A large set is represented by drawn
rows. Equal features, in equal order, and equal seeds give equal centres; clusters are numbered by size.
"""

import warnings

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from ue_audit.tools import Tools

STARTS = 10
FIRST_STEPS = 20  # of every start, by which the best one is chosen
MOST_STEPS = 300  # of the best one
FIT_ROWS = 20_000  # drawn from a larger set
ASSIGN_ROWS = 8192  # looked at together; has no effect but on memory


def fit(features: np.ndarray, clusters: int, tools: Tools) -> Tensor:
    """Centres (K,F) float64 of features (N,F), largest cluster first; K is smaller where fewer rows differ."""
    drawn = torch.randperm(len(features), generator=tools.generator("k-means", "rows"))[:FIT_ROWS].sort().values
    rows = np.asarray(features[drawn.numpy()], dtype=np.float64)
    clusters = min(clusters, len(np.unique(rows, axis=0)))
    starts = [_lloyd(rows, _seeds(rows, clusters, tools, start), FIRST_STEPS) for start in range(STARTS)]
    centres = min(starts, key=lambda found: _inertia(rows, found))
    for _ in range(FIRST_STEPS, MOST_STEPS):
        before, centres = centres, _lloyd(rows, centres, 1)
        if np.array_equal(before, centres):
            break
    sizes = np.bincount(nearest(rows, torch.from_numpy(centres)).numpy(), minlength=len(centres))
    largest = np.argsort(-sizes, kind="stable")
    return torch.from_numpy(centres[largest[: int((sizes > 0).sum())]])  # an emptied cluster is none


def nearest(features: np.ndarray, centres: Tensor) -> Tensor:
    """(N,) the number of the nearest centre of each row; the first of equally near ones."""
    parts = [features[start : start + ASSIGN_ROWS] for start in range(0, len(features), ASSIGN_ROWS)]
    return torch.cat([_distances(part, centres).argmin(1) for part in parts])


def _distances(rows: np.ndarray, centres: Tensor) -> Tensor:
    """(N,K), computed from differences: |a|^2 - 2ab + |b|^2 cancels for features far from zero."""
    h = torch.from_numpy(np.asarray(rows, dtype=np.float64))
    return torch.stack([(h - centre).square().sum(1) for centre in centres], 1)


def _inertia(rows: np.ndarray, centres: np.ndarray) -> float:
    return float(_distances(rows, torch.from_numpy(centres)).amin(1).sum())


def _seeds(rows: np.ndarray, clusters: int, tools: Tools, start: int) -> np.ndarray:
    """k-means++: each next centre is a row, drawn by its squared distance to those there."""
    generator = tools.generator("k-means", start)
    chosen = [int(torch.randint(len(rows), (1,), generator=generator))]
    apart = np.square(rows - rows[chosen[0]]).sum(1)
    while len(chosen) < clusters:
        chosen.append(int(torch.multinomial(torch.from_numpy(apart), 1, generator=generator)))
        apart = np.minimum(apart, np.square(rows - rows[chosen[-1]]).sum(1))
    return rows[chosen]


def _lloyd(rows: np.ndarray, centres: np.ndarray, steps: int) -> np.ndarray:
    """So many times: assign every row to its nearest centre, move every centre to its rows' mean."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a centre that lost its rows stays where it is
        moved: np.ndarray = kmeans2(rows, centres, iter=steps, minit="matrix")[0]
    return moved

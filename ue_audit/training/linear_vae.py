"""The variational autoencoder whose maps are linear: patches coded at a limited rate, fitted in closed form.

    u = m + V a z,   z ~ N(0, I),   x^ = m + V g V^T (u - m)        u: the 3 P^2 values of a patch of P x P pixels

Its optimum is known (Lucas et al., arXiv 1911.02469; for a given rate, reverse water-filling, Cover and Thomas, theorem
10.3.3): V are the principal axes of the patches with variances l_j, a code of rate sum_j 1/2 ln max(1, l_j / t) leaves
an error of min(l_j, t) in every direction, and the mean code brings back the share g_j = max(0, 1 - t / l_j). What the
class foretells of the rest is p_y, the mean of x - x^ over its images.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

PLACE = 4  # pixels at one place of the code; rates are in nats per place, as in `vae`
CHUNK_PIXELS = 2**20  # looked at together; has no effect but on memory
BISECTIONS = 100
FLAT = 1e-12  # variances below are rounding

Images = Callable[[Tensor], Tensor]  # of rows
Chunks = Sequence[Tensor]  # of rows


class Linear(NamedTuple):
    """The fitted maps, float32."""

    patch: int
    mean: Tensor  # m (3PP,)
    map: Tensor  # V g V^T (3PP, 3PP)
    perturbations: Tensor  # p (K,3,S,S)

    def image(self, x: Tensor) -> Tensor:
        """x^ (B,3,S,S), not clipped."""
        u = _patches(x, self.patch)
        coded = (u - self.mean.to(x.device)) @ self.map.to(x.device) + self.mean.to(x.device)
        return _assembled(coded, self.patch, x.shape[-1])


def fit(images: Images, labels: Tensor, classes: int, order: Tensor, patch: int, rate: float) -> Linear:
    """The optimum for `images(rows)` (B,3,S,S) in [0,1], labelled (N,), at `rate` nats per place."""
    chunks = torch.split(order, max(1, CHUNK_PIXELS // images(order[:1]).shape[-1] ** 2))
    mean, covariance = _moments(chunks, lambda rows: _patches(images(rows), patch).flatten(0, 1).double())
    variances, axes = torch.linalg.eigh(covariance)
    variances = variances.clamp_min(FLAT)
    gains = (1 - water_level(variances, rate * patch**2 / PLACE) / variances).clamp_min(0)
    coder = Linear(patch, mean.float(), ((axes * gains) @ axes.T).float(), torch.empty(0))
    return coder._replace(perturbations=_class_means(images, labels, classes, chunks, coder))


def water_level(variances: Tensor, rate: float) -> float:
    """t with sum_j 1/2 ln max(1, l_j / t) = rate, by bisection of ln t."""
    low, high = float(variances.min().log()) - 2 * rate, float(variances.max().log())
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        spent = float((variances.log() - middle).clamp_min(0).sum() / 2)
        low, high = (middle, high) if spent > rate else (low, middle)
    return float(torch.tensor(high).exp())


def side_for(size: int, patch: int) -> int:
    """The side worked at: the next multiple of `patch`. What is too much is cut off again."""
    return patch * -(-size // patch)


def _moments(chunks: Chunks, patches: Images) -> tuple[Tensor, Tensor]:
    """Mean and covariance of patches (M,3PP), from two passes: a difference of large sums would cancel."""
    sums = [(len(u), u.sum(0)) for u in map(patches, chunks)]
    count = sum(n for n, _ in sums)
    mean = torch.stack([total for _, total in sums]).sum(0) / count
    squares = [(u - mean).T @ (u - mean) for u in map(patches, chunks)]
    return mean, torch.stack(squares).sum(0) / count


def _class_means(images: Images, labels: Tensor, classes: int, chunks: Chunks, coder: Linear) -> Tensor:
    """(K,3,S,S): of what the code misses; 0 for a class without images."""
    counts = torch.bincount(labels, minlength=classes).clamp_min(1)
    sums: Any = 0
    for rows in chunks:
        x = images(rows)
        rest = (x - coder.image(x)).double()
        sums = sums + torch.zeros(classes, *x.shape[1:], dtype=rest.dtype).index_add_(0, labels[rows], rest)
    return (sums / counts.view(-1, 1, 1, 1)).float()  # type: ignore[no-any-return]


def _patches(x: Tensor, patch: int) -> Tensor:
    """(B,3,S,S) -> (B, places, 3PP)."""
    margin = side_for(x.shape[-1], patch) - x.shape[-1]
    return F.unfold(F.pad(x, (0, margin, 0, margin), mode="replicate"), patch, stride=patch).transpose(1, 2)


def _assembled(patches: Tensor, patch: int, size: int) -> Tensor:
    side = side_for(size, patch)
    return F.fold(patches.transpose(1, 2), side, patch, stride=patch)[..., :size, :size]

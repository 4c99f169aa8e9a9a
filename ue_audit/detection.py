"""Can the class be read off what nobody looks at? Probes of a labelled set, without any clean original.

    pixels       a linear classifier on pixels, asked for images that it has not learnt from (arXiv 2312.08898)
    two_layer    the same of a small two-layer network
    shifted      a two-layer network that learnt images 0.5 brighter and darker is asked for the images as they are
    spectrum     a linear classifier on the logarithm of the energy of each frequency cell: class-wise textures
    fragile      what the spectrum loses under JPEG, which takes shortcuts out and leaves pictures
    colour       what the pixels lose in grey
    mean_low, mean_mid, mean_high   the share of each band's energy that lies in the means of classes
    one_pixel    the share of classes in which one position has one saturated colour

Accuracies are told above chance: 0 is guessing the largest class, 1 is every image right. Of each class one half is
learnt from and the other asked for, then the other way round (of the networks, once). Arrays are (N,S,S,3) uint8 pixels
and (N,) class numbers.
"""

import io
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ue_audit import traits

Array = NDArray[Any]

CELLS = 8  # frequency cells along an axis
TILE = 64  # px: the frequencies of larger images are those of their middle
PERMUTATIONS = 99  # of the class numbers: the smallest p is 0.01
CORNER = 5  # levels from black or full, within which a channel is saturated
ALIKE = 0.5  # of the images of a class, and more than in the others, have the one pixel
JPEG_QUALITY = 10
MEDIAN = 3  # px
SHIFT = 0.5  # of the range of pixels: Algorithm 2's bias
WIDTH, STEPS, BATCH, RATE = 32, 150, 100, 2e-3  # of the two-layer network, by Adam


class Found(NamedTuple):
    """Every probe's figure, p-values of the class means, and pixels and spectrum after each cheap countermeasure."""

    figures: dict[str, float]
    p_values: dict[str, float]
    after: dict[str, dict[str, float]]


def probe(pixels: Array, numbers: Array, *, seed: int = 0, device: str = "cpu") -> Found:
    """All probes of a set. Depends on the order of the rows only through the halves that `seed` draws."""
    order = np.random.default_rng(seed).permutation(len(numbers))
    pixels, numbers = pixels[order], numbers[order]
    after = {name: _linear(treat(pixels), numbers) for name, treat in TREATMENTS.items()}
    plain = after.pop("nothing")
    means = {band: class_means(part, numbers, seed) for band, part in bands(pixels).items()}
    figures = plain | two_layer(pixels, numbers, seed=seed, device=device)
    figures["fragile"] = plain["spectrum"] - after["jpeg"]["spectrum"]
    figures["colour"] = plain["pixels"] - after["grayscale"]["pixels"]
    figures |= {f"mean_{band}": share for band, (share, _) in means.items()}
    figures["one_pixel"] = one_pixel(pixels, numbers)
    return Found(figures, {f"mean_{band}": p for band, (_, p) in means.items()}, after)


def _linear(pixels: Array, numbers: Array) -> dict[str, float]:
    return {"pixels": linear(_small(pixels), numbers), "spectrum": linear(spectrum(pixels), numbers)}


def _small(pixels: Array) -> Array:
    """Every image as means of areas: (N,F) float32, in levels."""
    side = min(traits.SIDE, pixels.shape[1])
    return np.stack([traits.shrunk(x, side, side).ravel() for x in pixels])


# -- classifiers -----------------------------------------------------------------------------------------------


def above_chance(accuracy: float, numbers: Array) -> float:
    """(accuracy - chance) / (1 - chance), where chance is the share of the largest class."""
    chance = float(np.bincount(numbers).max() / len(numbers))
    return (accuracy - chance) / (1 - chance)


def linear(features: Array, numbers: Array) -> float:
    """A regularised linear discriminant on features (N,F): held-out accuracy above chance."""
    half = traits.place_in_class(numbers) % 2 == 0
    right = 0
    for learnt in (half, ~half):
        scores = traits.discriminant(features[learnt], numbers[learnt], features[~learnt])
        right += int((scores.argmax(1) == numbers[~learnt]).sum())
    return above_chance(right / len(numbers), numbers)


def two_layer(pixels: Array, numbers: Array, *, seed: int, device: str) -> dict[str, float]:
    """Two-layer networks that learnt half of the images as they are, 0.5 brighter or 0.5 darker, asked for the rest.

    Algorithms 1 and 2 of arXiv 2312.08898: what lies in the brightness of a picture is lost when images are asked for
    as they are, a shortcut is not. There a ResNet-18 learns the shifted images. `shifted` is the worse of both signs.
    """
    import torch

    x = torch.from_numpy(_small(pixels) / 255).float().to(device)
    y = torch.from_numpy(numbers).long().to(device)
    learnt = torch.from_numpy(traits.place_in_class(numbers) % 2 == 0)
    shifts = torch.tensor([0, SHIFT, -SHIFT], device=device).view(3, 1, 1)
    generator = torch.Generator().manual_seed(seed)
    sizes = (x.shape[1], WIDTH, int(numbers.max()) + 1)
    weights = [torch.randn(1, a, b, generator=generator) * (2 / a) ** 0.5 for a, b in pairwise(sizes)]
    weights = [weight.repeat(3, 1, 1).to(device).requires_grad_() for weight in weights]  # one start for all three
    biases = [torch.zeros(3, 1, b, device=device, requires_grad=True) for b in sizes[1:]]
    optimiser = torch.optim.Adam([*weights, *biases], RATE)

    def scores(x: torch.Tensor) -> torch.Tensor:  # (3,B,F) -> (3,B,K)
        hidden = torch.baddbmm(biases[0], x, weights[0]).relu()
        return torch.baddbmm(biases[1], hidden, weights[1])

    rows = torch.nonzero(learnt).ravel()
    for _ in range(STEPS):
        lot = rows[torch.randint(len(rows), (BATCH,), generator=generator)]
        loss = torch.nn.functional.cross_entropy(scores(x[lot] + shifts).flatten(0, 1), y[lot].repeat(3))
        optimiser.zero_grad()
        torch.autograd.backward(3 * loss)
        optimiser.step()
    with torch.no_grad():
        right = scores(x[~learnt].expand(3, -1, -1)).argmax(2) == y[~learnt]
    found = [above_chance(accuracy, numbers) for accuracy in right.float().mean(1).tolist()]
    return {"two_layer": found[0], "shifted": min(found[1:])}


# -- frequencies -------------------------------------------------------------------------------------------------


def coefficients(pixels: Array) -> Array:
    """The orthonormal DCT of the middle of each image, in levels: (N,T,T,3) float32."""
    top, left = (max(0, side - TILE) // 2 for side in pixels.shape[1:3])
    tile = pixels[:, top : top + TILE, left : left + TILE].astype(np.float32)
    cosines = traits.cosines(tile.shape[1])
    found: Array = np.einsum("kh,nhwc,lw->nklc", cosines, tile, cosines, optimize=True)
    return found


def spectrum(pixels: Array) -> Array:
    """log(1 + mean energy) of every frequency cell and channel: (N, 8*8*3) float32."""
    energy = np.square(coefficients(pixels))
    side = energy.shape[1]
    edges = np.arange(CELLS) * side // CELLS
    for axis in (1, 2):
        counts = np.diff(np.append(edges, side)).astype(np.float32)
        energy = np.add.reduceat(energy, edges, axis=axis) / counts.reshape((-1, 1, 1) if axis == 1 else (-1, 1))
    return np.log1p(energy).reshape(len(pixels), -1)


def bands(pixels: Array) -> dict[str, Array]:
    """The coefficients at low, mid and high radial frequencies, thirds of Nyquist's as in `distances.bands`: (N,F)."""
    found = coefficients(pixels)
    k = np.arange(found.shape[1])
    squared = 9 * (k[:, None] ** 2 + k**2)
    band = (squared >= len(k) ** 2).astype(int) + (squared >= (2 * len(k)) ** 2)
    return {name: found[:, band == n].reshape(len(pixels), -1) for n, name in enumerate(("low", "mid", "high"))}


def class_means(features: Array, numbers: Array, seed: int) -> tuple[float, float]:
    """The share of the variance of features (N,F) that lies between classes, less what labels drawn at random have.

    Permuted labels have (K - 1) / (N - 1) on average, exactly. With it, the p-value of that share among permutations.
    """
    count, classes = len(numbers), int(numbers.max()) + 1
    centred = features - features.mean(0)
    rng, weight = np.random.default_rng(seed), 1 / np.sqrt(np.bincount(numbers)).astype(np.float32)
    between = []
    for labels in (numbers, *(rng.permutation(numbers) for _ in range(PERMUTATIONS))):
        member = np.zeros((classes, count), np.float32)
        member[labels, np.arange(count)] = weight[labels]
        between.append(float(np.square(member @ centred, dtype=np.float64).sum()))
    whole = float(np.square(centred, dtype=np.float64).sum()) or 1.0
    share = between[0] / whole - (classes - 1) / (count - 1)
    return share, sum(found >= between[0] for found in between) / len(between)


# -- one pixel -----------------------------------------------------------------------------------------------------


def one_pixel(pixels: Array, numbers: Array) -> float:
    """The share of classes with a position that has one saturated colour in many of its images, and not in others'."""
    counts = np.stack([_corners(pixels[numbers == k]) for k in range(int(numbers.max()) + 1)])  # (K,8,S,S)
    sizes = np.bincount(numbers).reshape(-1, 1, 1, 1)
    others = (counts.sum(0) - counts) / (len(numbers) - sizes)
    return float(np.mean((counts / sizes - others).max((1, 2, 3)) > ALIKE))


def _corners(pixels: Array) -> Array:
    """How many of the images have each of the eight corners of the colour cube, at each position: (8,S,S)."""
    full, black = pixels >= 255 - CORNER, pixels <= CORNER
    corner = np.where((full | black).all(3), full @ np.array([1, 2, 4]), -1)
    return np.stack([(corner == number).sum(0) for number in range(8)])


# -- cheap countermeasures -----------------------------------------------------------------------------------------


def _grayscale(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")


def _jpeg(image: Image.Image) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=JPEG_QUALITY)
    return Image.open(out)


def _each(change: Callable[[Image.Image], Image.Image]) -> Callable[[Array], Array]:
    return lambda pixels: np.stack([np.asarray(change(Image.fromarray(x))) for x in pixels])


def _median(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.MedianFilter(MEDIAN))


TREATMENTS: dict[str, Callable[[Array], Array]] = {
    "nothing": lambda pixels: pixels,
    "grayscale": _each(_grayscale),
    "jpeg": _each(_jpeg),
    "median": _each(_median),
}

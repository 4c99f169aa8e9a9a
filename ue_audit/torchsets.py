"""Data sets that torchvision has put on this disk, as candidates of a split; nothing is ever fetched.

Pixels are torchvision's; what is kept as an array there becomes a lossless PNG. Official parts stay what they are.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ue_audit.candidates import Candidate, Found, class_folders
from ue_audit.decoding import Pixels, encode_png
from ue_audit.errors import UsageError
from ue_audit.scanning import evenly


class Known(NamedTuple):
    """torchvision's class, how each part is asked for, the files below the root, class names that it does not say."""

    name: str
    parts: Mapping[str | None, Mapping[str, Any]]
    files: str
    classes: tuple[str, ...] = ()


HALVES: Mapping[str | None, Mapping[str, Any]] = {None: {"train": True}, "test": {"train": False}}
SPLITS: Mapping[str | None, Mapping[str, Any]] = {None: {"split": "train"}, "test": {"split": "test"}}
DIGITS = tuple("0123456789")

KNOWN = {
    "cifar10": Known("CIFAR10", HALVES, "cifar-10-batches-py/*"),
    "cifar100": Known("CIFAR100", HALVES, "cifar-100-python/*"),
    "svhn": Known("SVHN", SPLITS, "t*_32x32.mat", DIGITS),
    "mnist": Known("MNIST", HALVES, "MNIST/raw/*-ubyte"),
    "fashion-mnist": Known("FashionMNIST", HALVES, "FashionMNIST/raw/*-ubyte"),
    "kmnist": Known("KMNIST", HALVES, "KMNIST/raw/*-ubyte"),
    "stl10": Known("STL10", {**SPLITS, "raw": {"split": "unlabeled"}}, "stl10_binary/*.*"),
}


def gather(kind: str, root: Path, limit: int | None = None) -> Found:
    """The data set `kind` below `root`; `limit`: so many of each part.

    Raises UsageError if it is not there, or damaged.
    """
    known = KNOWN[kind]
    candidates = [
        candidate
        for part, asked in known.parts.items()
        for candidate in evenly(_part(known, part, _opened(known, root, asked)), limit)
    ]
    archives = sorted((p for p in root.glob(known.files) if p.is_file()), key=lambda path: path.parts)
    return Found(root, tuple(candidates), archives=tuple(archives))


def _opened(known: Known, root: Path, asked: Mapping[str, Any]) -> Any:
    from torchvision import datasets  # loads torch

    try:
        return getattr(datasets, known.name)(str(root), download=False, **asked)
    except (RuntimeError, FileNotFoundError) as error:
        raise UsageError(
            f"expected {known.name} as torchvision keeps it at {root} ({known.files}), found it missing or damaged",
            hint=f"ue-audit fetches nothing; get it with: "
            f"python -c \"from torchvision.datasets import {known.name} as D; D('{root}', download=True)\"",
            details=[str(error).splitlines()[0]],
        ) from error


def _part(known: Known, part: str | None, found: Any) -> list[Candidate]:
    pixels = _pixels(found.data)
    labels = None if part == "raw" else [int(n) for n in getattr(found, "targets", getattr(found, "labels", ()))]
    names = class_folders([str(name) for name in known.classes or found.classes])
    candidates = []
    for row in range(len(pixels)):
        label = None if labels is None else names[labels[row]]
        path = f"{row:06d}" if label is None else f"{label}/{row:06d}"
        candidates.append(Candidate(path, label, part, f"{part or 'train'}[{row}]", _png(pixels, row)))
    return candidates


def _pixels(data: Any) -> Pixels:
    """(N,H,W) grey, (N,H,W,3) or (N,3,H,W) as (N,H,W,3) uint8, a view where it can be."""
    array = np.asarray(data)
    if array.ndim == 3:
        return np.broadcast_to(array[..., None], (*array.shape, 3))
    return array if array.shape[-1] == 3 else array.transpose(0, 2, 3, 1)


def _png(pixels: Pixels, row: int) -> Callable[[], bytes]:
    return lambda: encode_png(pixels[row])

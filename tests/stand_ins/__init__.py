"""Methods of a few lines for testing stages in milliseconds, and the small folders they run on."""

from pathlib import Path

import numpy as np
from PIL import Image


def photos(root: Path, classes: int = 3, each: int = 4, size: int = 8, seed: int = 0, ending: str = "png") -> Path:
    """`root/<class>/<n>.png`: noise around a colour of the class, away from 0 and 255 so that nothing clips."""
    rng = np.random.default_rng(seed)
    for k in range(classes):
        folder = root / f"class{k}"
        folder.mkdir(parents=True, exist_ok=True)
        for n in range(each):
            base = np.full((size, size, 3), 90) + 30 * np.eye(3, dtype=int)[k % 3]
            pixels = base + rng.integers(-30, 31, (size, size, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{n:03d}.{ending}")
    return root


def owner(root: Path, **kind: int) -> Path:
    """A data set with train/, test/, val/ and raw/."""
    for number, part in enumerate(("train", "test", "val")):
        photos(root / part, seed=number, **kind)
    photos(root / "raw", classes=1, each=12, seed=9, size=kind.get("size", 8))
    return root

"""Makes `images.zip` from the CIFAR-10 archive: `python -m ue_audit.demo.make cifar10.zip`.

Four classes. `train` (to be protected), `raw` (the attacker's unlabelled images) and `val` come from CIFAR-10's
training split, `test` from its test split, all in the order of the SHA-256 of their names. An image that nearly
equals one already taken (correlation of 8x8 thumbnails of at least `ALIKE`) is left out, in whatever part it is,
so the parts are disjoint in content and not by name only. Entries are the archive's lossless WebP files, stored.
"""

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("airplane", "automobile", "bird", "cat")
PARTS = {"test": ("test", 250), "train": ("train", 500), "val": ("train", 100), "raw": ("train", 1000)}
ALIKE = 0.97


def thumbnail(webp: bytes) -> np.ndarray:
    """A centred unit vector of 192 numbers: the dot product of two is their correlation."""
    image = Image.open(io.BytesIO(webp)).convert("RGB").resize((8, 8), Image.Resampling.BOX)
    vector = np.asarray(image, np.float32).ravel()
    centred: np.ndarray = vector - vector.mean()
    return centred / np.float32(max(float(np.linalg.norm(centred)), 1e-6))


def main(source: str) -> None:
    archive = zipfile.ZipFile(source)
    order = sorted(archive.namelist(), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    taken = np.zeros((0, 192), np.float32)
    used: set[str] = set()
    with zipfile.ZipFile(Path(__file__).with_name("images.zip"), "w", zipfile.ZIP_STORED) as out:
        for part, (split, count) in PARTS.items():
            for label in CLASSES:
                left = count
                for name in (n for n in order if n.startswith(f"{split}/{label}/") and n not in used):
                    webp = archive.read(name)
                    vector = thumbnail(webp)
                    used.add(name)
                    if len(taken) and float((taken @ vector).max()) >= ALIKE:
                        continue
                    taken = np.vstack([taken, vector])
                    folder = f"raw/{label}-" if part == "raw" else f"{part}/{label}/"
                    out.writestr(zipfile.ZipInfo(folder + Path(name).name), webp)
                    left -= 1
                    if not left:
                        break
                print(part, label, count - left, "of", count)


if __name__ == "__main__":
    main(sys.argv[1])

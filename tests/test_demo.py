"""The built-in images: counts, size, lossless content, disjoint parts."""

import io
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from ue_audit import demo
from ue_audit.demo.make import ALIKE, CLASSES, PARTS, thumbnail


@pytest.fixture(scope="module")
def archive():
    with zipfile.ZipFile(demo.ARCHIVE) as opened:
        yield {entry.filename: opened.read(entry) for entry in opened.infolist()}


def test_counts_and_size(archive):
    assert demo.ARCHIVE.stat().st_size <= 14_000_000
    found = Counter(name.rsplit("/", 1)[0] for name in archive)
    wanted = {f"{part}/{label}": PARTS[part][1] for part in ("train", "val", "test") for label in CLASSES}
    assert found == wanted | {"raw": 4 * PARTS["raw"][1]}


def test_no_image_is_in_two_parts_not_even_nearly(archive):
    vectors = np.stack([thumbnail(webp) for webp in archive.values()])
    near = vectors @ vectors.T
    np.fill_diagonal(near, 0)
    assert near.max() < ALIKE
    assert len(set(archive.values())) == len(archive) == 7400


def test_unpacking_keeps_what_is_there_and_repairs_what_is_torn(tmp_path, archive):
    demo.unpack(tmp_path)
    name = sorted(archive)[0]
    (tmp_path / name).write_bytes(b"torn")
    demo.unpack(tmp_path)
    assert (tmp_path / name).read_bytes() == archive[name]


def test_the_images_are_those_of_cifar10(archive, shared_data):
    """The same pixels under the same names in the lossless copy of the data set."""
    with zipfile.ZipFile(shared_data / "cifar10.zip") as source:
        for name in sorted(archive)[::97]:
            part, rest = name.split("/", 1)
            label, stem = rest.split("-" if part == "raw" else "/", 1)
            split = "test" if part == "test" else "train"
            original = Image.open(io.BytesIO(source.read(f"{split}/{label}/{stem}"))).convert("RGB")
            mine = Image.open(io.BytesIO(archive[name]))
            assert mine.size == (32, 32) and (np.asarray(mine.convert("RGB")) == np.asarray(original)).all()

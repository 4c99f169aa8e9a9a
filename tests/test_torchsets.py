"""torchvision's files as sources: official parts, pixels, class names, and what is missing. Nothing is fetched."""

import hashlib
import pickle
import struct
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from torchvision import datasets
from trees import noise

from ue_audit import manifest, split, torchsets
from ue_audit.errors import UsageError
from ue_audit.imagefolder import decode
from ue_audit.tool_settings import SplitSettings

ROOT, OUT = Path("torch"), Path("out")
LABELS = {"train": [0, 1] * 20, "test": [1, 0] * 5}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.socket", None)


def digits(name: str = "MNIST") -> dict[str, np.ndarray]:
    """IDX files as Yann LeCun described them: magic number, sizes, bytes."""
    place = ROOT / name / "raw"
    place.mkdir(parents=True)
    images = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        labels = np.array(LABELS[part], np.uint8)
        images[part] = np.stack([noise(n + 100 * len(labels), 28)[..., 0] for n in range(len(labels))])
        head = struct.pack(">IIII", 2051, len(labels), 28, 28)
        (place / f"{prefix}-images-idx3-ubyte").write_bytes(head + images[part].tobytes())
        (place / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, len(labels)) + labels.tobytes())
    return images


def colours(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """CIFAR-10's files with other images, and torchvision told their digests: it opens no pickle of another."""
    place = ROOT / "cifar-10-batches-py"
    place.mkdir(parents=True)
    images = {
        part: np.stack([noise(n + 1000 * len(LABELS[part]), 32) for n in range(len(LABELS[part]))]) for part in LABELS
    }
    batches = {
        part: {"data": images[part].transpose(0, 3, 1, 2).reshape(-1, 3072), "labels": LABELS[part]} for part in LABELS
    }
    md5 = {}
    for name, content in {**batches, "meta": {"label_names": ["airplane", "a/b"]}}.items():
        (place / name).write_bytes(pickle.dumps(content))
        md5[name] = hashlib.md5((place / name).read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": "meta", "key": "label_names", "md5": md5["meta"]})
    return images


def made(form: str) -> Path:
    return split.run(SplitSettings(source=ROOT, form=form, output=OUT))


def test_grey_digits_come_exactly_and_the_official_test_part_is_kept() -> None:
    images = digits()
    out = made("mnist")
    records = manifest.records(out)
    assert sum(record["part"] == "test" for record in records) == 10
    for record in records:
        part, _, row = record["source"].rstrip("]").partition("[")
        assert (part == "test") == (record["part"] == "test")
        pixels = decode(out / record["path"]).pixels
        assert np.array_equal(pixels, np.repeat(images[part][int(row)][..., None], 3, 2))
        assert record["label"] == ["0 - zero", "1 - one"][LABELS[part][int(row)]]
    assert manifest.verify(out, chain=True).problems == []
    assert {d.digest.keys() == {"sha256"} for d in manifest.read(out).dependencies} == {True}


def test_colours_keep_their_channels_and_a_class_name_is_made_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    images = colours(monkeypatch)
    records = manifest.records(made("cifar10"))
    assert {record["label"] for record in records} == {"airplane", "a_b"}
    for record in records[::7]:
        part, _, row = record["source"].rstrip("]").partition("[")
        assert np.array_equal(decode(OUT / record["path"]).pixels, images[part][int(row)])


def test_a_damaged_pickle_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    colours(monkeypatch)
    bomb = b"cos\nsystem\n(S'touch opened'\ntR."
    (ROOT / "cifar-10-batches-py/train").write_bytes(bomb)
    with pytest.raises(UsageError, match="missing or damaged"):
        made("cifar10")
    assert not Path("opened").exists() and not OUT.exists()


@pytest.mark.parametrize("form", torchsets.KNOWN)
def test_what_is_not_there_is_not_fetched(form: str) -> None:
    ROOT.mkdir()
    with pytest.raises(UsageError) as caught:
        made(form)
    assert "ue-audit fetches nothing" in caught.value.hint and "download=True" in caught.value.hint
    assert list(ROOT.rglob("*")) == []


def test_arrays_of_every_shape_become_rgb() -> None:
    grey, last, first = (
        np.zeros((2, 5, 4), np.uint8),
        np.ones((2, 5, 4, 3), np.uint8),
        np.ones((2, 3, 96, 96), np.uint8),
    )
    shapes = [torchsets._pixels(array).shape for array in (grey, last, first)]
    assert shapes == [(2, 5, 4, 3), (2, 5, 4, 3), (2, 96, 96, 3)]


def test_every_set_can_be_asked_for() -> None:
    assert {"folder", "hf", *torchsets.KNOWN} == set(get_args(SplitSettings.model_fields["form"].annotation))
    assert all(hasattr(datasets, known.name) for known in torchsets.KNOWN.values())

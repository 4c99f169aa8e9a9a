"""Near duplicates of real images: what was planted is found, and nothing else is."""

import io
import zipfile
from importlib import resources

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from ue_audit import lookalikes
from ue_audit.decoding import Pixels

PLANTED = 100
Changed = Pixels


@pytest.fixture(scope="module")
def photos() -> Pixels:
    """2,000 real images of CIFAR-10, (N,32,32,3)."""
    packed = resources.files("ue_audit.demo").joinpath("images.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        names = sorted(name for name in archive.namelist() if "/raw/" in f"/{name}" and not name.endswith("/"))
        opened = [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names[:2000]]
    return np.stack([np.asarray(image) for image in opened])


@pytest.fixture(scope="module")
def known(photos: Pixels) -> lookalikes.Prints:
    return lookalikes.prints(photos)


def encoded(image: Image.Image, kind: str, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, kind, quality=quality)
    return Image.open(out).convert("RGB")


CHANGES = {
    "the same": lambda image: image,
    "JPEG": lambda image: encoded(image, "JPEG", 50),
    "WebP": lambda image: encoded(image, "WEBP", 60),
    "halved and doubled": lambda image: image.resize((16, 16), Image.Resampling.BILINEAR).resize((32, 32)),
    "doubled": lambda image: image.resize((64, 64), Image.Resampling.BICUBIC),
    "of other proportions": lambda image: image.resize((48, 30), Image.Resampling.BICUBIC),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_planted_copy_is_found_at_its_original(photos: Pixels, known: lookalikes.Prints, change: str) -> None:
    copies = [np.asarray(CHANGES[change](Image.fromarray(image))) for image in photos[:PLANTED]]
    found = lookalikes.matches(lookalikes.prints(copies), known)
    assert np.mean(found == np.arange(PLANTED)) > 0.97  # a frame of a film has its neighbour for a twin
    assert (found >= 0).all()


@pytest.mark.parametrize(("box", "least"), [((1, 1, 31, 31), 0.98), ((0, 0, 30, 30), 0.98), ((2, 0, 32, 32), 0.85)])
def test_copies_that_were_cut_are_found_by_windows(photos: Pixels, box: tuple[int, ...], least: float) -> None:
    some = photos[:PLANTED]
    cut = lookalikes.prints([np.asarray(Image.fromarray(x).crop(box).resize((32, 32), 2)) for x in some])
    windows = lookalikes.cropped(some)
    assert windows.shape == (9, PLANTED, cut.shape[1])
    found = [lookalikes.matches(cut, window, lookalikes.CUT_ALIKE) == np.arange(PLANTED) for window in windows]
    assert np.any(found, axis=0).mean() >= least


def test_other_pictures_are_not_found(photos: Pixels, known: lookalikes.Prints) -> None:
    halves = known[:1000], known[1000:]
    pairs = np.flatnonzero(lookalikes.matches(*halves) >= 0)
    assert len(pairs) <= 10  # those of CIFAR-10 itself: 31 among 5,000 and 10,000 images
    turned = lookalikes.prints(np.rot90(photos[:300], axes=(1, 2)))
    assert (lookalikes.matches(turned, known) >= 0).sum() <= 3  # frogs from above


def test_images_without_detail_are_like_none() -> None:
    flat = lookalikes.prints(np.full((3, 40, 30, 3), 200, np.uint8))
    sky = np.broadcast_to(np.linspace(250, 120, 32).astype(np.uint8)[:, None, None], (2, 32, 32, 3)).copy()
    assert not flat.any()
    assert (lookalikes.matches(flat, flat) == -1).all()
    assert (lookalikes.matches(lookalikes.prints(sky[:1]), lookalikes.prints(sky[1:] // 2 + 60)) == -1).all()


def test_blocks_decide_nothing(photos: Pixels, known: lookalikes.Prints, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = np.concatenate([known[:150], known[:150]])
    whole = lookalikes.matches(known[:150], twice)
    assert (whole == np.arange(150)).all()  # of equal ones the first
    monkeypatch.setattr(lookalikes, "BLOCK", 7)
    assert (lookalikes.matches(known[:150], twice) == whole).all()
    assert (lookalikes.prints(photos[:20]) == known[:20]).all()


def test_nothing_against_nothing(known: lookalikes.Prints) -> None:
    none = lookalikes.prints([])
    assert none.shape == (0, known.shape[1])
    assert len(lookalikes.matches(none, known)) == 0 and (lookalikes.matches(known[:4], none) == -1).all()


def test_fingerprints_come_back_from_text(known: lookalikes.Prints) -> None:
    assert (lookalikes.unpack(lookalikes.pack(known)) == known).all()
    for text in ("A", "AAAA", "not base64!"):
        with pytest.raises(ValueError):
            lookalikes.unpack(text)


def test_pairs_of_one_set_are_those_that_matching_row_by_row_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), dtype=np.uint8)
    images = [np.asarray(Image.fromarray(x).resize((32, 32), Image.Resampling.BICUBIC)) for x in drawn]
    images += [images[3][:, ::-1].copy(), np.clip(images[7].astype(int) + 12, 0, 255).astype(np.uint8)]
    found = lookalikes.prints(images)
    assert lookalikes.pairs(found) == [(3, 40), (7, 41)]
    monkeypatch.setattr(lookalikes, "BLOCK", 7)
    assert lookalikes.pairs(found) == [(3, 40), (7, 41)]
    assert lookalikes.pairs(found[:0]) == []

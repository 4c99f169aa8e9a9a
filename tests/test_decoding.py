"""One file to 8-bit RGB: what is converted, exactly and on record; what damage is noticed."""

import io
import os
import random
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import spoiled
from PIL import Image
from trees import noise, saved

from ue_audit import decoding
from ue_audit.decoding import BadImage, decode, encode_png, pixels_sha256, resized


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[:, :, None], 3, axis=2)


def test_rgb_is_taken_as_it_is() -> None:
    x = noise(3, 9, 14)
    for kind, options in [("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("PPM", {}), ("TIFF", {})]:
        taken = decode(saved(x, kind, **options))
        assert np.array_equal(taken.pixels, x) and taken.actions == ()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    """round(v / 257): 0 -> 0, 65535 -> 255, and every level is hit by 257 values or so."""
    values = np.arange(0, 65536, 16).reshape(64, 64)
    taken = decode(saved(spoiled.grey16(values), kind))
    assert np.array_equal(taken.pixels, grey(np.rint(values / 257)))
    assert taken.actions == ("grey16-scaled",)


def test_sixteen_bit_grey_big_endian_and_with_white_as_zero() -> None:
    values = np.arange(0, 65536, 16).reshape(64, 64)
    big = Image.new("I;16B", (64, 64))
    big.frombytes(values.astype(">u2").tobytes())
    assert np.array_equal(decode(saved(big, "TIFF")).pixels, grey(np.rint(values / 257)))
    inverted = decode(saved(spoiled.grey16(values), "TIFF", tiffinfo={262: 0}))
    assert np.array_equal(inverted.pixels, grey(np.rint((65535 - values) / 257)))


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_sixteen_bit_colour_keeps_its_high_byte_and_says_so(colour: int, channels: int) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (5, 6, channels))
    if channels != 3:
        deep[:, :, -1] = 65535
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    taken = decode(spoiled.png(6, 5, 16, colour, rows=rows))
    colours = deep[:, :, :3] if channels > 2 else deep[:, :, :1]
    assert np.array_equal(taken.pixels, np.broadcast_to(colours >> 8, (5, 6, 3)))
    assert "colour16-high-byte" in taken.actions


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_laid_on_white(kind: str) -> None:
    """c * a + 255 * (1 - a), so that a clear pixel is white whatever colour hides in it."""
    clear = np.zeros((2, 3, 4), np.uint8)
    clear[..., :3], clear[0, :, 3], clear[1, :, 3] = (255, 0, 0), (0, 128, 255), (0, 51, 255)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    taken = decode(saved(Image.fromarray(clear), kind, **options))
    expected = [[(255, 255, 255), (255, 127, 127), (255, 0, 0)], [(255, 255, 255), (255, 204, 204), (255, 0, 0)]]
    assert np.array_equal(taken.pixels, expected)
    assert taken.actions == ("alpha-on-white",)


def test_transparency_of_palette_and_of_grey() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    taken = decode(saved(palette, transparency=0))
    assert np.array_equal(taken.pixels, [[(255, 255, 255), (0, 0, 255)]])
    assert taken.actions == ("palette", "alpha-on-white")
    taken = decode(saved(Image.fromarray(np.array([[10, 200]], np.uint8)), transparency=10))
    assert np.array_equal(taken.pixels, grey(np.array([[255, 200]]))) and taken.actions == ("grey", "alpha-on-white")
    taken = decode(saved(spoiled.grey16(np.array([[2570, 51400]])), transparency=2570))
    assert np.array_equal(taken.pixels, grey(np.array([[255, 200]])))
    assert taken.actions == ("grey16-scaled", "alpha-on-white")


def test_palette_grey_and_bilevel() -> None:
    x = noise(4)[:, :, 0]
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        taken = decode(saved(Image.fromarray(x), kind))
        assert np.array_equal(taken.pixels, grey(x)) and taken.actions == ("grey",)
    taken = decode(saved(Image.fromarray(x > 99)))
    assert np.array_equal(taken.pixels, grey((x > 99) * 255)) and taken.actions == ("bilevel",)
    palette = Image.fromarray(noise(4)).quantize(16)
    taken = decode(saved(palette))
    assert np.array_equal(taken.pixels, np.asarray(palette.convert("RGB"))) and taken.actions == ("palette",)


def test_cmyk() -> None:
    """(1 - c)(1 - k), as Pillow and torchvision convert it."""
    inks = np.zeros((1, 3, 4), np.uint8)
    inks[0] = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255)]
    for kind in ("TIFF", "JPEG"):
        taken = decode(saved(Image.fromarray(inks.repeat(8, 0).repeat(8, 1), mode="CMYK"), kind))
        seen = taken.pixels[4, [4, 12, 20]].astype(int)
        assert np.abs(seen - [(255, 255, 255), (0, 255, 255), (0, 0, 0)]).max() <= 2
        assert taken.actions == ("cmyk",)


def test_plain_and_odd_ppm() -> None:
    assert np.array_equal(decode(b"P3 1 1 255\n1 2 3\n").pixels, [[(1, 2, 3)]])
    assert np.array_equal(decode(b"P1 2 1\n1 0\n").pixels, grey(np.array([[0, 255]])))
    taken = decode(b"P5 4 1 100\n" + bytes([0, 20, 99, 100]))
    assert np.array_equal(taken.pixels, grey(np.array([[0, 51, 252, 255]]))) and "maxval-100-scaled" in taken.actions
    taken = decode(b"P5 3 1 1000\n" + struct.pack(">3H", 0, 200, 1000))
    assert np.array_equal(taken.pixels, grey(np.array([[0, 51, 255]]))) and "grey16-scaled" in taken.actions


UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    """0 and 9 are no orientations; Pillow itself turns TIFF while loading, and nothing else."""
    x = np.zeros((16, 24, 3), np.uint8)
    x[:8, :8], x[:8, 16:] = (255, 255, 255), (255, 0, 0)
    exif = Image.Exif()
    exif[274] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    taken = decode(saved(x, kind, exif=exif, **options))
    expected = UPRIGHT.get(orientation, UPRIGHT[1])(x)
    assert taken.pixels.shape == expected.shape
    assert np.abs(taken.pixels.astype(int) - expected).max() <= (3 if kind == "JPEG" else 0)
    assert taken.actions == ((f"exif-orientation-{orientation}",) if 2 <= orientation <= 8 else ())


def test_the_digest_of_pixels_survives_another_compression() -> None:
    x = noise(1, 6, 4)
    digests = {pixels_sha256(decode(saved(x, compress_level=level)).pixels) for level in (0, 9)}
    assert digests == {pixels_sha256(x)}
    assert pixels_sha256(x.reshape(4, 6, 3)) not in digests  # the shape counts


def test_shrinking_is_antialiased() -> None:
    """Stripes of one pixel, 0 and 255, shrunk by 8 are grey all over and keep their mean."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resized(stripes, 8, 8)
    assert small.shape == (8, 8, 3) and small.min() >= 120 and small.max() <= 135


def test_outputs_are_lossless_and_carry_no_metadata() -> None:
    for seed in range(20):
        x = noise(seed, 1 + seed, 30 - seed)
        data = encode_png(x)
        assert np.array_equal(decode(data).pixels, x) and data == encode_png(x.copy(order="F"))
        with Image.open(io.BytesIO(data)) as image:
            assert image.info == {} and not image.getexif()


# -- damaged --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF"])
def test_cut_anywhere_it_is_refused_or_has_the_same_pixels(kind: str) -> None:
    y, x = np.mgrid[:24, :20]
    smooth = np.stack([x * 9, y * 9, x * 4 + y * 4], axis=2).astype(np.uint8)
    whole = saved(smooth, kind, **({"lossless": True} if kind == "WEBP" else {}))
    pixels = decode(whole).pixels
    points = sorted({*np.linspace(0, len(whole) - 1, 120).astype(int), *range(len(whole) - 20, len(whole))})
    refused = 0
    for at in points:
        try:
            assert np.array_equal(decode(whole[:at]).pixels, pixels), f"cut at {at} of {len(whole)}"
        except BadImage:
            refused += 1
    assert refused >= len(points) - 4


def test_hostile_bytes_give_an_image_or_a_reason(capfd: pytest.CaptureFixture[str]) -> None:
    """Random flips in headers and bodies of every format; libtiff writes to stderr by itself."""
    dice = random.Random(0)
    files = [saved(noise(1, 16), kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF")]
    files += [saved(Image.fromarray(noise(1, 16)), "TIFF", compression=c) for c in ("tiff_lzw", "jpeg", "tiff_deflate")]
    files += [saved(spoiled.grey16(np.arange(256).reshape(16, 16))), saved(spoiled.GOOD.convert("P"))]
    reasons: Counter[str] = Counter()
    for number in range(1100 if not os.environ.get("UE_AUDIT_SLOW") else 22_000):
        data = bytearray(files[number % len(files)])
        for _ in range(dice.choice((1, 1, 4, 12))):
            data[dice.randrange(dice.choice((min(64, len(data)), len(data))))] ^= 1 << dice.randrange(8)
        try:
            reasons["taken"] += decode(bytes(data)).pixels.dtype == np.uint8
        except BadImage as bad:
            reasons[bad.reason] += 1
    capfd.readouterr()
    known = {"taken", "damaged", "truncated", "unsupported", "over-large", "pixel-format", "multi-frame"}
    assert set(reasons) <= known and reasons["damaged"] > 200


def test_a_file_of_too_many_bytes_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_BYTES", 100)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("was read"))
    (tmp_path / "1.png").touch()
    os.truncate(tmp_path / "1.png", 101)
    with pytest.raises(BadImage, match="over-large"):
        decode(tmp_path / "1.png")

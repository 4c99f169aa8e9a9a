"""Intake: what is refused, with its reason and all at once; what is converted, exactly and on record."""

import os
import random
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import spoiled
import torch
from PIL import Image, ImageCms
from trees import image_tree, noise, saved

from ue_audit import imagefolder
from ue_audit.errors import InputRefused, IntegrityError, NonFiniteError, UsageError
from ue_audit.imagefolder import BadImage, decode

KINDS = [pytest.param(*key, data, id=f"{key[0]} {ascii(key[1])}") for key, data in spoiled.FILES.items()]


def put(root: Path, path: str, data: bytes) -> None:
    (root / path).parent.mkdir(exist_ok=True)
    try:
        (root / path).write_bytes(data)
    except OSError:
        pytest.skip("this file system takes no such name")


def refusals(root: Path) -> list[imagefolder.Refusal]:
    """What an intake refuses; it must not do anything else."""
    with pytest.raises(InputRefused) as caught:
        imagefolder.intake(imagefolder.scan(root), size=8)
    skipped = imagefolder.intake(imagefolder.scan(root), size=8, on_bad="skip", max_bad=1)
    assert [str(refusal) for refusal in skipped.refused] == list(caught.value.details)
    assert caught.value.exit_code == 3 and caught.value.hint
    return skipped.refused


# -- refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reason", "path", "data"), KINDS)
def test_a_bad_file_is_refused_with_its_reason(tmp_path: Path, reason: str, path: str, data: bytes) -> None:
    root = image_tree(tmp_path / "data")
    put(root, path, data)
    found = refusals(root)
    assert [refusal.reason for refusal in found] == [reason]
    assert found[0].path.isprintable() and found[0].detail.isprintable()
    assert len(imagefolder.intake(imagefolder.scan(root), size=8, on_bad="skip", max_bad=1).data) == 8


@pytest.mark.parametrize("kind", spoiled.OTHERS)
def test_bad_links_and_names_are_refused_with_their_reason(tmp_path: Path, kind: str) -> None:
    root = image_tree(tmp_path / "data")
    reason, spoil, paths = spoiled.OTHERS[kind]
    spoil(root)
    assert [(refusal.path, refusal.reason) for refusal in refusals(root)] == [(path, reason) for path in paths]


def test_there_are_more_than_sixty_kinds() -> None:
    assert len(spoiled.FILES) + len(spoiled.OTHERS) >= 60


def test_all_of_them_at_once_in_one_error(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data")
    for (_, path), data in spoiled.FILES.items():
        put(root, path, data)
    for _, spoil, _ in spoiled.OTHERS.values():
        spoil(root)
    listed = sum(len(paths) for _, _, paths in spoiled.OTHERS.values()) + len(spoiled.FILES)
    assert len(refusals(root)) == listed


def test_nothing_is_written_and_nothing_outside_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = image_tree(tmp_path / "data")
    for _, spoil, _ in spoiled.OTHERS.values():
        spoil(root)
    before = sorted(tmp_path.rglob("*"))
    read: list[Path] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: (read.append(self), original(self))[1])
    refusals(root)
    assert sorted(tmp_path.rglob("*")) == before
    assert read and all(path.resolve().is_relative_to(root) for path in read)


def test_unreadable_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = image_tree(tmp_path / "data")
    original, scandir = Path.read_bytes, os.scandir

    def deny(self: Path) -> bytes:
        if self.name == "1.png":
            raise PermissionError(13, "Permission denied")
        return original(self)

    def deny_folder(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(Path, "read_bytes", deny)
    monkeypatch.setattr("ue_audit.scanning.os.scandir", deny_folder)
    with pytest.raises(InputRefused) as caught:
        imagefolder.intake(imagefolder.scan(root))
    assert [line.split(" (")[0] for line in caught.value.details] == ["a/1.png: unreadable", "b: unreadable"]


@pytest.mark.parametrize(
    ("bad", "share", "taken"), [(1, 0.05, True), (1, 0.04, False), (2, 0.1, True), (2, 0.05, False), (0, 0.0, True)]
)
def test_skipping_goes_on_up_to_its_share(tmp_path: Path, bad: int, share: float, taken: bool) -> None:
    """20 files in all."""
    root = image_tree(tmp_path / "data", each=10)
    for number in range(bad):
        (root / "a" / f"{number}.png").write_bytes(b"")
    listing = imagefolder.scan(root)
    if not taken:
        with pytest.raises(InputRefused, match=f"{bad} of 20 files"):
            imagefolder.intake(listing, on_bad="skip", max_bad=share)
        return
    result = imagefolder.intake(listing, on_bad="skip", max_bad=share)
    reasons = {"empty": bad} if bad else {}
    assert result.counts() == {"seen": 20, "taken": 20 - bad, "refused": bad, "reasons": reasons}
    assert len(result.data) == len(result.sources) == 20 - bad
    assert bool(result.warnings()) == bool(bad)


def test_skipping_must_not_make_a_class_vanish(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data", each=1)
    (root / "b" / "0.png").write_bytes(b"")
    with pytest.raises(InputRefused, match="no usable image is left in b"):
        imagefolder.intake(imagefolder.scan(root), on_bad="skip", max_bad=1)


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


# -- converted ---------------------------------------------------------------------------------------------


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


def test_a_colour_profile_is_dropped_on_record_and_in_a_warning(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (root / "a" / "0.png").write_bytes(saved(noise(0), icc_profile=profile))
    taken = imagefolder.intake(imagefolder.scan(root))
    assert taken.sources[0].actions == ("icc-profile-dropped",)
    assert taken.warnings() == ["1 images carry a colour profile, which outputs do not keep"]


def test_outputs_are_lossless_and_carry_no_metadata() -> None:
    for seed in range(20):
        x = noise(seed, 1 + seed, 30 - seed)
        data = imagefolder.encode_png(x)
        assert np.array_equal(decode(data).pixels, x) and data == imagefolder.encode_png(x.copy(order="F"))
        with Image.open(__import__("io").BytesIO(data)) as image:
            assert image.info == {} and not image.getexif()


# -- listing -----------------------------------------------------------------------------------------------


def test_entries_and_classes_are_sorted_and_nested_folders_belong_to_their_class(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data", ("zebra", "ant"), each=2)
    (root / "ant" / "young").mkdir()
    (root / "ant" / "young" / "9.png").write_bytes(saved(noise(1)))
    listing = imagefolder.scan(root)
    assert [entry.path for entry in listing.entries] == [
        "ant/0.png", "ant/1.png", "ant/young/9.png", "zebra/0.png", "zebra/1.png",
    ]  # fmt: skip
    assert listing.classes == ("ant", "zebra")
    assert [entry.label for entry in listing.entries] == ["ant"] * 3 + ["zebra"] * 2
    taken = imagefolder.intake(listing)
    assert taken.data.labels.tolist() == [0, 0, 0, 1, 1] and taken.data.keys[2] == "ant/young/9.png"


def test_hidden_root_entries_our_own_files_and_litter_are_passed_over(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data")
    for name in (".git", ".cache"):
        (root / name).mkdir()
        (root / name / "1.png").write_bytes(saved(noise(1)))
    for name in (".hidden", "ue-audit.json", "ue-audit.sums", "ue-audit.records.jsonl", "a/.DS_Store", "b/Thumbs.db"):
        (root / name).write_text("")
    listing = imagefolder.scan(root)
    assert listing.classes == ("a", "b") and len(listing.entries) == 8 and listing.refused == ()


def test_empty_class_folders_are_left_out_and_named(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data")
    (root / "never").mkdir()
    (root / "nested" / "never").mkdir(parents=True)
    listing = imagefolder.scan(root)
    assert listing.classes == ("a", "b") and listing.empty == ("nested", "never")
    assert imagefolder.intake(listing).warnings() == ["class folders without an image are left out: nested, never"]


def test_links_inside_the_folder_are_followed_to_files(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data", each=1)
    (root / "a" / "link.png").symlink_to("../b/0.png")
    listing = imagefolder.scan(root)
    assert [entry.path for entry in listing.entries] == ["a/0.png", "a/link.png", "b/0.png"]
    assert np.array_equal(imagefolder.intake(listing).data.pixels[1], noise(1000))


def test_a_root_that_is_a_link_is_fine(tmp_path: Path) -> None:
    image_tree(tmp_path / "data")
    (tmp_path / "link").symlink_to("data")
    assert len(imagefolder.intake(imagefolder.scan(tmp_path / "link")).data) == 8


def test_hostile_but_legal_names_pass_and_keep_their_bytes(tmp_path: Path) -> None:
    names = ["[red]", "[bold]", "<img src=x onerror=alert(1)>", "-rf", "a b", "%41", "|pipe|", "`id`", "日本語", "🦊"]
    root = tmp_path / "data"
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / f"{name}.png").write_bytes(saved(noise(1)))
    taken = imagefolder.intake(imagefolder.scan(root))
    assert sorted(taken.data.classes) == sorted(names) and taken.outputs() == taken.data.keys


@pytest.mark.parametrize(
    ("limit", "per_class"), [(1, [1]), (2, [1, 1]), (5, [2, 2, 1]), (7, [3, 3, 1]), (99, [4, 4, 1])]
)
def test_a_limit_takes_from_the_classes_in_turn(tmp_path: Path, limit: int, per_class: list[int]) -> None:
    root = image_tree(tmp_path / "data", each=4)
    image_tree(root, ("c",), each=1)
    listing = imagefolder.scan(root, limit=limit)
    assert sorted(Counter(entry.label for entry in listing.entries).values(), reverse=True) == per_class
    assert list(listing.entries) == sorted(listing.entries)


def test_flat_ignores_classes(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data")
    (root / "stray.png").write_bytes(saved(noise(1)))
    listing = imagefolder.scan(root, flat=True)
    assert len(listing.entries) == 9 and listing.classes == () and listing.refused == ()
    data = imagefolder.intake(listing).data
    assert data.labels is None and data.classes == ()


@pytest.mark.parametrize(
    ("sources", "outputs"),
    [
        (["a/1.png"], ["a/1.png"]),
        (["a/1.jpg", "a/2.PNG"], ["a/1.png", "a/2.png"]),
        (["a/1.jpg", "a/1.png"], ["a/1.jpg.png", "a/1.png.png"]),
        (["a/1.jpg", "b/1.png"], ["a/1.png", "b/1.png"]),
        (["a/A.jpg", "a/a.png"], ["a/A.jpg.png", "a/a.png.png"]),
        (["a/1.jpg", "a/1.jpg.png", "a/1.png"], ["a/1.jpg.png", "a/1.jpg.png.png", "a/1.png.png"]),
        (["a/v1.2.jpg"], ["a/v1.2.png"]),
    ],
)
def test_output_paths_never_meet(sources: list[str], outputs: list[str]) -> None:
    entries = [imagefolder.Entry(path, "a", Path(path)) for path in sources]
    assert imagefolder.output_paths(entries) == outputs


@pytest.mark.parametrize(
    ("folders", "is_parts"),
    [
        (["train/a"], True),
        (["train/a", "test/a", "val/a", "raw"], True),
        (["train", "bus", "car"], False),
        (["a", "b"], False),
        (["a", "test"], False),
    ],
)
def test_parts(tmp_path: Path, folders: list[str], is_parts: bool) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    found = imagefolder.parts(tmp_path)
    assert found.train == (tmp_path / "train" if is_parts else tmp_path)
    assert found.test == (tmp_path / "test" if is_parts and (tmp_path / "test").exists() else None)


@pytest.mark.parametrize("place", ["nothing", "file", "empty", "images"])
def test_a_root_that_holds_no_classes_is_a_usage_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(saved(noise(1)))
    with pytest.raises((UsageError, InputRefused)) as caught:
        imagefolder.intake(imagefolder.scan(tmp_path / place))
    assert caught.value.exit_code == (3 if place == "images" else 2)


# -- arrays ------------------------------------------------------------------------------------------------


def test_mixed_and_oblong_sizes_need_a_size(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data", each=2)
    (root / "a" / "2.png").write_bytes(saved(noise(1, 10, 12)))
    with pytest.raises(UsageError, match=r"8x8 \(4\), 12x10 \(1\)") as caught:
        imagefolder.intake(imagefolder.scan(root))
    assert caught.value.hint == "give the working size, such as --size 8"
    taken = imagefolder.intake(imagefolder.scan(root), size=8)
    assert taken.data.pixels.shape == (5, 8, 8, 3)
    assert (taken.sources[2].width, taken.sources[2].height) == (12, 10)
    assert np.array_equal(taken.data.pixels[2], imagefolder.resized(noise(1, 10, 12), 8, 8))
    assert np.array_equal(taken.native(2), noise(1, 10, 12))
    oblong = tmp_path / "oblong"
    (oblong / "a").mkdir(parents=True)
    (oblong / "a" / "1.png").write_bytes(saved(noise(1, 10, 12)))
    with pytest.raises(UsageError, match=r"12x10 \(1\)"):
        imagefolder.intake(imagefolder.scan(oblong))


def test_refusals_come_before_sizes(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data", each=2)
    (root / "a" / "2.png").write_bytes(saved(noise(1, 10, 12)))
    (root / "a" / "3.png").write_bytes(b"")
    with pytest.raises(InputRefused):
        imagefolder.intake(imagefolder.scan(root))


def test_shrinking_is_antialiased() -> None:
    """Stripes of one pixel, 0 and 255, shrunk by 8 are grey all over and keep their mean."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = imagefolder.resized(stripes, 8, 8)
    assert small.shape == (8, 8, 3) and small.min() >= 120 and small.max() <= 135


def test_a_source_that_changes_under_us_is_noticed(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data")
    taken = imagefolder.intake(imagefolder.scan(root))
    (root / "a" / "0.png").write_bytes(saved(noise(99)))
    with pytest.raises(IntegrityError, match="changed"):
        taken.native(0)


def test_skipped_rows_leave_no_gap(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data", each=10)
    (root / "a" / "3.png").write_bytes(b"")
    taken = imagefolder.intake(imagefolder.scan(root), on_bad="skip", max_bad=0.1)
    assert taken.data.pixels.shape == (19, 8, 8, 3)
    for row, key in enumerate(taken.data.keys):
        assert np.array_equal(taken.data.pixels[row], decode(root / key).pixels)


def test_batches(tmp_path: Path) -> None:
    data = imagefolder.intake(imagefolder.scan(image_tree(tmp_path / "data"))).data
    assert len(data) == 8 and data.size == 8 and data.clean is None
    one = data.batch([5, 2])
    assert one.shape == (2, 3, 8, 8) and one.dtype == torch.float32 and one.min() >= 0 and one.max() <= 1
    assert torch.equal(one, data.batch(torch.tensor([5, 2])))
    assert torch.equal(data.batch(slice(0, 3)), data.batch([0, 1, 2]))
    assert torch.equal(one[0], torch.from_numpy(data.pixels[5]).permute(2, 0, 1) / 255)


def test_larger_than_memory_arrays_lie_on_disk_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagefolder, "IN_MEMORY", 100)
    root = image_tree(tmp_path / "data")
    taken = imagefolder.intake(imagefolder.scan(root), array=imagefolder.spill(tmp_path / "room"))
    assert isinstance(taken.data.pixels, np.memmap) and list((tmp_path / "room").iterdir()) == []
    assert np.array_equal(taken.data.pixels, imagefolder.intake(imagefolder.scan(root)).data.pixels)


def test_every_level_survives_the_way_to_float_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    x = imagefolder.to_float(levels)
    assert x.shape == (1, 3, 16, 16) and x.dtype == torch.float32
    assert np.array_equal(imagefolder.to_uint8(x), levels)
    assert np.array_equal(imagefolder.to_uint8(x.bfloat16().float() * 0 + x), levels)


def test_to_uint8_rounds_to_nearest_and_clips() -> None:
    x = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 254.4 / 255, 254.6 / 255, 7.0]).reshape(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert imagefolder.to_uint8(x)[0, 0, :, 0].tolist() == [0, 0, 1, 254, 255, 255]
    assert x[0, 0, 0, 0] == -1  # the input is left as it is


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_to_uint8_never_hides_what_is_not_a_number(value: float) -> None:
    x = torch.zeros(2, 3, 4, 4)
    x[1, 2, 3, 3] = value
    with pytest.raises(NonFiniteError):
        imagefolder.to_uint8(x)


# -- real images -------------------------------------------------------------------------------------------


def test_real_photographs_of_mixed_sizes(shared_data: Path, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(shared_data / "oxford_pets_part.zip") as archive:
        names = [name for name in archive.namelist() if "/Abyssinian/" in name or "/Bengal/" in name]
        archive.extractall(tmp_path, [name for name in names if name.startswith("train/")][::10])
    taken = imagefolder.intake(imagefolder.scan(tmp_path / "train"), size=64)
    assert len(taken.data) >= 15 and taken.refused == [] and len(taken.data.classes) == 2
    for row in (0, len(taken.data) - 1):
        native = taken.native(row)
        assert (native.shape[1], native.shape[0]) == (taken.sources[row].width, taken.sources[row].height)
        gap = native.mean(axis=(0, 1)) - taken.data.pixels[row].mean(axis=(0, 1))
        assert np.abs(gap).max() < 2

"""The whole floor on folders as people have them: every coding and size at once, and photos of 24 megapixels."""

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import spoiled
from PIL import Image
from trees import noise, saved

from ue_audit import cli, imagefolder, manifest
from ue_audit.imagefolder import decode


def turned(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return saved(image, "JPEG", exif=exif)


def deep(image: Image.Image) -> Image.Image:
    return spoiled.grey16(257 * np.asarray(image.convert("L")).astype(int))


def clear(image: Image.Image) -> Image.Image:
    image.putalpha(image.convert("L"))
    return image


CODINGS: dict[str, Callable[[Image.Image], bytes]] = {
    "photo.JPG": lambda image: saved(image, "JPEG"),
    "saved by a browser.jfif": lambda image: saved(image, "JPEG", progressive=True),
    "phone.jpeg": lambda image: saved(image, "MPO", save_all=True, append_images=[image.resize((9, 9))]),
    "turned.jpg": lambda image: turned(image, 6),
    "print.jpg": lambda image: saved(image.convert("CMYK"), "JPEG"),
    "grey.jpg": lambda image: saved(image.convert("L"), "JPEG"),
    "plain.png": saved,
    "palette.png": lambda image: saved(image.quantize(16), bits=4),
    "clear palette.png": lambda image: saved(image.quantize(16), transparency=3),
    "clear.png": lambda image: saved(clear(image)),
    "scan16.png": lambda image: saved(deep(image)),
    "scan16.tif": lambda image: saved(deep(image), "TIFF"),
    "fax.tiff": lambda image: saved(image.convert("1"), "TIFF", compression="group4"),
    "packed.tif": lambda image: saved(image, "TIFF", compression="tiff_lzw"),
    "web.webp": lambda image: saved(image, "WEBP"),
    "old.bmp": lambda image: saved(image, "BMP"),
    "raw.ppm": lambda image: saved(image, "PPM"),
}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photos/<class>: two of every coding, no two of one size, with what file managers and phones leave beside them."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("cats & dogs", "été")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for at, (file, coded) in enumerate(CODINGS.items()):
            for copy in range(2):
                image = Image.fromarray(noise(100 * number + 10 * at + copy, 20 + at + copy, 44 - at + 3 * copy))
                (folder / f"{copy} {file}").write_bytes(coded(image))
        for litter in (".DS_Store", "._0 plain.png", "Thumbs.db", "0 photo.xmp", "IMG_0001.AAE"):
            (folder / litter).write_bytes(b"litter")
    return tmp_path / "photos"


def run(line: str) -> None:
    assert cli.main(shlex.split(line)[1:]) == 0, line


def test_a_whole_audit_of_a_mixed_folder_by_the_lines_it_prints(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("ue-audit split --test 25% --val 0 photos -o 'my set'")
    line = manifest.read(Path("my set")).next
    assert line == "ue-audit protect --size 20 'my set'"
    run(line + " --method ops")
    protected = Path("my set.ops")
    for record in manifest.records(protected):
        x, x_ue = decode(Path("my set/train") / record["source"]).pixels, decode(protected / record["path"]).pixels
        assert x.shape == x_ue.shape and record["changed"] <= 1, "one pixel, at the photo's own size"
    run("ue-audit train-prior --preset tiny --size 20 --set steps=2 --set batch=4 'my set/raw'")
    line = manifest.read(Path("my set.prior.ckpt")).next
    assert line == "ue-audit purify --prior 'my set.prior.ckpt' --size 20"
    run(line)
    line = manifest.read(Path("my set.ops.jcdp")).next
    assert line == "ue-audit evaluate 'my set.ops' 'my set.ops.jcdp' --size 20"
    run(line + " --seeds 1 --set epochs=1 --set batch=8")
    run(manifest.read(Path("my set.eval")).next)
    line = manifest.read(Path("my set.report")).next
    run(line)
    run("ue-audit export 'my set.ops'")
    capsys.readouterr()
    text = Path("my set.report/report.html").read_text()
    assert "cats &amp; dogs" in text and "été" in text


def test_every_coding_is_taken_in_with_what_was_done(photos: Path) -> None:
    taken = imagefolder.intake(imagefolder.scan(photos), size=20)
    assert len(taken.sources) == 2 * 2 * len(CODINGS) and not taken.refused
    done = {source.path.split("/")[1][2:]: source.actions for source in taken.sources}
    assert done["phone.jpeg"] == ("first-picture",) and done["turned.jpg"] == ("exif-orientation-6",)
    assert done["print.jpg"] == ("cmyk",) and done["scan16.tif"] == ("grey16-scaled",)


def test_of_a_phones_picture_the_first_is_the_photo() -> None:
    photo = Image.fromarray(noise(1, 16))
    taken = decode(CODINGS["phone.jpeg"](photo))
    assert np.array_equal(taken.pixels, decode(saved(photo, "JPEG")).pixels)


def test_twelve_bits_in_sixteen_come_out_dark_and_the_owner_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number, top in enumerate((4095, 4096, 65535)):
        values = np.linspace(0, top, 64).round().astype(int).reshape(8, 8)
        (tmp_path / f"a/{number}.png").write_bytes(saved(spoiled.grey16(values)))
    taken = imagefolder.intake(imagefolder.scan(tmp_path))
    assert [("grey16-dark" in source.actions) for source in taken.sources] == [True, False, False]
    [warning] = taken.warnings()
    assert warning.startswith("1 images are 16-bit grey but use its lowest 12 bits only")


def test_photos_of_a_good_camera_are_taken() -> None:
    wide = Image.new("L", (8256, 5504), 99)
    assert decode(saved(wide, "JPEG")).pixels.shape == (5504, 8256, 3)


@pytest.mark.parametrize("folder", ["flat", "parts"])
def test_flat_parts_are_not_taken_for_classes(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`protect` on a flat split must not learn to tell train from raw."""
    monkeypatch.chdir(tmp_path)
    Path("flat").mkdir()
    for number in range(20):
        Path(f"flat/{number}.png").write_bytes(saved(noise(number, 8)))
    run("ue-audit split flat -o parts")
    assert imagefolder.parts(Path(folder)).train == Path(folder) / ("train" if folder == "parts" else "")

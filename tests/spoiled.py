"""Bad input, one function per kind: each spoils a folder of images and is named after the reason it is refused for."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from trees import noise, saved

GOOD = Image.fromarray(noise(7, 12))
Spoil = Callable[[Path], None]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int = 8, colour: int = 2, extra: bytes = b"", rows: bytes = b"") -> bytes:
    """A PNG by hand: a header of any claim, extra chunks, then rows (with their filter bytes)."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def animation(kind: str) -> bytes:
    out = io.BytesIO()
    GOOD.save(out, kind, save_all=True, append_images=[GOOD.rotate(90)])
    return out.getvalue()


def tiff12() -> bytes:
    """A TIFF whose grey values are 12 bits deep, 4x1."""
    entries = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 6)]
    table = b"".join(struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<I", 14) + bytes(6) + struct.pack("<H", len(entries)) + table + bytes(4)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


FILES: dict[tuple[str, str], bytes] = {
    ("empty", "a/empty.png"): b"",
    ("truncated", "a/cut.png"): saved(GOOD)[:-20],
    ("truncated", "a/no_end.png"): saved(GOOD)[:-12],
    ("truncated", "a/cut.jpg"): saved(GOOD, "JPEG")[:-40],
    ("truncated", "a/cut.bmp"): saved(GOOD, "BMP")[:-100],
    ("truncated", "a/cut.ppm"): saved(GOOD, "PPM")[:-1],
    ("truncated", "a/cut.tif"): saved(GOOD, "TIFF", compression="raw")[:300],
    ("truncated", "a/plain.ppm"): b"P3 1 1 255\n1 2 34",
    ("truncated", "a/few_rows.png"): png(64, 64, rows=bytes(100)),
    ("damaged", "a/cut.webp"): saved(GOOD, "WEBP", lossless=True)[:-40],
    ("damaged", "a/flipped.png"): flipped(saved(GOOD), 60),
    ("damaged", "a/head_only.png"): saved(GOOD)[:20],
    ("damaged", "a/noise.jpg"): b"\xff\xd8\xff\xe0" + bytes(50),
    ("damaged", "a/noise.tif"): b"II*\0\x08\0\0\0" + b"\xff" * 50,
    ("damaged", "a/noise.webp"): b"RIFF\x10\0\0\0WEBPVP8 aaaa",
    ("damaged", "a/noise.bmp"): b"BM" + bytes(60),
    ("damaged", "a/flat.png"): png(0, 5),
    ("damaged", "a/text_bomb.png"): png(4, 4, extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**7)))),
    ("damaged", "a/bad_exif.png"): saved(GOOD, exif=b"garbagegarbage"),
    ("over-large", "a/wide.png"): png(8193, 8193),
    ("over-large", "a/bomb.png"): png(100_000, 100_000),
    ("over-large", "a/monster.png"): png(2**31 - 1, 2**31 - 1),
    ("over-large", "a/wide.ppm"): b"P6 60000 60000 255\n",
    ("wrong-suffix", "a/jpeg.png"): saved(GOOD, "JPEG"),
    ("wrong-suffix", "a/png.jpg"): saved(GOOD),
    ("wrong-suffix", "a/webp.bmp"): saved(GOOD, "WEBP"),
    ("unsupported", "a/gif.gif"): saved(GOOD, "GIF"),
    ("unsupported", "a/gif.png"): saved(GOOD, "GIF"),
    ("unsupported", "a/text.png"): b"I am no image\n",
    ("unsupported", "a/script.jpg"): b"<html><script>alert(1)</script>",
    ("unsupported", "a/drawing.png"): b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ("unsupported", "a/archive.png"): b"PK\3\4" + bytes(40),
    ("unsupported", "a/notes.txt"): b"notes",
    ("unsupported", "a/no_suffix"): saved(GOOD),
    ("unsupported", "a/image.png.bak"): saved(GOOD),
    ("multi-frame", "a/moving.png"): animation("PNG"),
    ("multi-frame", "a/moving.webp"): animation("WEBP"),
    ("multi-frame", "a/pages.tiff"): animation("TIFF"),
    ("pixel-format", "a/float.tif"): saved(Image.new("F", (4, 4)), "TIFF"),
    ("pixel-format", "a/int32.tif"): saved(Image.new("I", (4, 4)), "TIFF"),
    ("pixel-format", "a/lab.tif"): saved(Image.new("LAB", (4, 4)), "TIFF"),
    ("pixel-format", "a/float.ppm"): b"Pf\n1 1\n-1.0\n" + struct.pack("<f", 0.5),
    ("pixel-format", "a/twelve_bits.tif"): tiff12(),
    ("outside-class", "stray.png"): saved(GOOD),
    ("unsupported", "labels.csv"): b"a,b\n",
    ("name-control", "a/new\nline.png"): saved(GOOD),
    ("name-control", "a/esc\x1b[31m.png"): saved(GOOD),
    ("name-control", "a/tab\t.png"): saved(GOOD),
    ("name-control", "a/c1\x85.png"): saved(GOOD),
    ("name-control", "a/separator\u2028.png"): saved(GOOD),
    ("name-backslash", "a/back\\slash.png"): saved(GOOD),
    ("name-encoding", os.fsdecode(b"a/latin\xe9.png")): saved(GOOD),
    ("name-control", "bell\x07/1.png"): saved(GOOD),
    ("name-reserved", "ue-audit.mine/1.png"): saved(GOOD),
}


def _links(kind: str) -> Spoil:
    def make(root: Path) -> None:
        outside = root.parent / "outside"
        outside.mkdir(exist_ok=True)
        (outside / "secret.png").write_bytes(saved(GOOD))
        targets = {
            "file": outside / "secret.png",
            "folder": outside,
            "dots": Path("../../outside/secret.png"),
            "nowhere": Path("missing.png"),
            "itself": Path("itself.png"),
            "above": Path(".."),
            "sideways": Path("../b"),
            "device": Path("/dev/null"),
        }
        (root / "a" / f"{kind}.png").symlink_to(targets[kind])

    return make


def _pair(*names: str) -> Spoil:
    def make(root: Path) -> None:
        for number, name in enumerate(names):
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(saved(noise(number)))

    return make


def _pipe(root: Path) -> None:
    os.mkfifo(root / "a" / "pipe.png")


def _socket(root: Path) -> None:
    here = Path.cwd()
    os.chdir(root / "a")  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("socket.png")
    os.chdir(here)


# reason -> (what spoils, the paths that are refused)
OTHERS: dict[str, tuple[str, Spoil, tuple[str, ...]]] = {
    "link to a file outside": ("link-outside", _links("file"), ("a/file.png",)),
    "link to a folder outside": ("link-outside", _links("folder"), ("a/folder.png",)),
    "link by dots": ("link-outside", _links("dots"), ("a/dots.png",)),
    "link to a device": ("link-outside", _links("device"), ("a/device.png",)),
    "link to nothing": ("link-broken", _links("nowhere"), ("a/nowhere.png",)),
    "link to itself": ("link-loop", _links("itself"), ("a/itself.png",)),
    "link upwards": ("link-loop", _links("above"), ("a/above.png",)),
    "link to a class": ("link-folder", _links("sideways"), ("a/sideways.png",)),
    "pipe": ("not-a-file", _pipe, ("a/pipe.png",)),
    "socket": ("not-a-file", _socket, ("a/socket.png",)),
    "names equal but for case": ("name-twin", _pair("a/Cat.png", "a/cat.png"), ("a/Cat.png", "a/cat.png")),
    "names equal but for Unicode form": (
        "name-twin",
        _pair("a/caf\u00e9.png", "a/cafe\u0301.png"),
        ("a/cafe\u0301.png", "a/caf\u00e9.png"),
    ),
    "names equal but for sharp s": (
        "name-twin",
        _pair("a/straße.png", "a/STRASSE.png"),
        ("a/STRASSE.png", "a/straße.png"),
    ),
    "classes equal but for case": ("name-twin", _pair("Dog/1.png", "dog/2.png"), ("Dog", "dog")),
    "output name too long": (
        "name-long",
        _pair("a/" + "x" * 251 + ".png", "a/" + "x" * 251 + ".bmp"),
        ("a/" + "x" * 251 + ".bmp", "a/" + "x" * 251 + ".png"),
    ),
}


def grey16(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint16))

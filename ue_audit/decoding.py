"""One image file to 8-bit RGB and back: a full decode that refuses what it cannot convert without guessing.

Every conversion is named in `Decoded.actions`. Pillow's own conversions are not trusted where they lose data:
16-bit grey would saturate, transparent pixels would show hidden colours, Exif turns would be ignored.
"""

import hashlib
import io
import stat
import struct
import warnings
import zlib
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ue_audit.errors import InputRefused
from ue_audit.scanning import SUFFIXES

Pixels = npt.NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF")
MAX_PIXELS = 2**26  # cameras and phones of 50 megapixels
MAX_BYTES = 2**28
ORIENTATION = 274  # the Exif and TIFF tag
PHOTOMETRIC, BITS = 262, 258
WHITE_IS_ZERO = 0
TWELVE_BITS = 4095  # what scanners and medical devices put into 16-bit files
PLAIN_MODES = {"L": "grey", "1": "bilevel", "CMYK": "cmyk", "YCbCr": "ycbcr", "P": "palette"}


class BadImage(InputRefused):
    """A file that is no image to take in: a reason code and the finding in words."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class Decoded(NamedTuple):
    """`pixels` (H,W,3) uint8, the sha256 of the file, and what was done to reach 8-bit RGB."""

    pixels: Pixels
    sha256: str
    actions: tuple[str, ...]


def decode(file: Path | bytes) -> Decoded:
    """A file (or its bytes) as 8-bit RGB. Raises BadImage."""
    data = file if isinstance(file, bytes) else _read(file)
    if not data:
        raise BadImage("empty", "the file has no bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own limits are stricter than what Pillow warns of
        try:
            pixels, actions = _decoded(data, None if isinstance(file, bytes) else file)
        except BadImage:
            raise
        except Exception as error:  # a decoder that is fed hostile bytes may raise anything
            raise BadImage(*_explained(data, error)) from error
    return Decoded(pixels, hashlib.sha256(data).hexdigest(), actions)


def _read(file: Path) -> bytes:
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise BadImage("not-a-file", "a folder, pipe, socket or device")
        if found.st_size > MAX_BYTES:
            raise BadImage("over-large", f"{found.st_size} bytes; expected at most {MAX_BYTES}")
        return file.read_bytes()
    except OSError as error:
        raise BadImage("unreadable", error.strerror or str(error)) from error


def _explained(data: bytes, error: Exception) -> tuple[str, str]:
    if isinstance(error, Image.DecompressionBombError):
        return "over-large", f"expected at most {MAX_PIXELS} pixels"
    if isinstance(error, UnidentifiedImageError):
        known = next((name for magic, name in MAGIC.items() if data.startswith(magic)), None)
        if known in FORMATS:
            return "damaged", f"a {known} file whose header cannot be read"
        return "unsupported", f"{known or 'no known image format'}; expected {', '.join(FORMATS)}"
    text = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return ("truncated" if "truncated" in text or isinstance(error, EOFError) else "damaged"), text


MAGIC = {
    b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"RIFF": "WEBP",
    b"GIF8": "GIF", b"%PDF": "PDF", b"<svg": "SVG", b"\0\0\0\x0cjP": "JPEG 2000", b"8BPS": "Photoshop",
    b"\0\0\x01\0": "ICO", b"PK": "a zip archive",
}  # fmt: skip


def ending(data: bytes) -> str:
    """The ending that a file of these bytes should have; "" for none of FORMATS."""
    kind = next((name for magic, name in MAGIC.items() if data.startswith(magic)), "")
    if data[:1] == b"P" and data[1:2].isdigit():
        kind = "PPM"
    return next((suffix for suffix, name in SUFFIXES.items() if name == kind), "")


def _decoded(data: bytes, file: PurePath | None) -> tuple[Pixels, tuple[str, ...]]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _check_header(image, data, file)
        actions = _about(image, data)
        turned = image.getexif().get(ORIENTATION, 1)  # before load: Pillow turns TIFF by itself while loading
        image.load()
        upright: Image.Image = image
        if turned in range(2, 9):
            upright = ImageOps.exif_transpose(image)
            actions.append(f"exif-orientation-{turned}")
        pixels, how = _to_rgb(upright, image)
    return np.ascontiguousarray(pixels), (*actions, *how)


def _check_header(image: Image.Image, data: bytes, file: PurePath | None) -> None:
    """What can be refused before any pixel is decoded."""
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    if image.width * image.height > MAX_PIXELS:
        raise BadImage("over-large", f"{image.width}x{image.height}; expected at most {MAX_PIXELS} pixels")
    if file is not None and SUFFIXES.get(file.suffix.lower(), kind) != kind:
        raise BadImage("wrong-suffix", f"{kind} data in a {file.suffix} file")
    if image.format != "MPO" and _frames(image, data) > 1:  # of a phone's JPEG the first picture is the photo
        raise BadImage("multi-frame", "an animation or several pages; expected one picture")
    if kind == "PNG":
        _check_png(data)
    if data[:2] in (b"P2", b"P3") and data[-1:].isdigit():
        raise BadImage("truncated", "a plain PPM must end with a line break, or its last number may be cut")


def _frames(image: Image.Image, data: bytes) -> int:
    if image.format != "TIFF":
        return int(getattr(image, "n_frames", 1))
    with Image.open(io.BytesIO(data), formats=("TIFF",)) as again:  # n_frames would walk a chain without end
        try:
            again.seek(1)
        except EOFError:
            return 1
    return 2


def _check_png(data: bytes) -> None:
    """Every chunk whole, with the right checksum, up to the end chunk: Pillow lets some of it pass."""
    at = 8
    while at + 12 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 4 : at + 8 + length]
        check = data[at + 8 + length : at + 12 + length]
        if len(check) < 4:
            break
        if zlib.crc32(body) != int.from_bytes(check, "big"):
            raise BadImage("damaged", f"the checksum of a PNG chunk is wrong at byte {at}")
        if name == b"IEND":
            return
        at += 12 + length
    raise BadImage("truncated", "the PNG has no end chunk")


def _about(image: Image.Image, data: bytes) -> list[str]:
    actions = []
    if image.info.get("icc_profile"):
        actions.append("icc-profile-dropped")
    if image.format == "MPO":
        actions.append("first-picture")
    tags: Any = getattr(image, "tag_v2", {})
    deep_png = image.format == "PNG" and data[24] == 16
    if image.mode not in ("I", "I;16", "I;16B") and (deep_png or 16 in _tuple(tags.get(BITS, 8))):
        actions.append("colour16-high-byte")  # Pillow keeps the high byte of 16-bit colour: floor(v / 256)
    tiles: Any = getattr(image, "tile", None)
    scale = tiles[0].args if image.format == "PPM" and tiles else ()
    if isinstance(scale, tuple) and len(scale) == 2 and scale[1] != 255:
        actions.append(f"maxval-{scale[1]}-scaled")
    return actions


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _to_rgb(image: Image.Image, source: Image.Image) -> tuple[Pixels, tuple[str, ...]]:
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        return _from_grey16(image, source)
    if image.has_transparency_data:
        return _on_white(image)
    if image.mode == "RGB":
        return np.asarray(image), ()
    if image.mode not in PLAIN_MODES:
        raise BadImage("pixel-format", f"mode {image.mode} cannot be converted to 8-bit RGB without guessing")
    return np.asarray(image.convert("RGB")), (PLAIN_MODES[image.mode],)


def _from_grey16(image: Image.Image, source: Image.Image) -> tuple[Pixels, tuple[str, ...]]:
    """round(v / 257) maps 0..65535 onto 0..255; Pillow's own conversion would clip at 255."""
    tags: Any = getattr(source, "tag_v2", {})
    if (image.mode == "I" and source.format not in ("PPM", "PNG")) or set(_tuple(tags.get(BITS, 16))) != {16}:
        raise BadImage("pixel-format", "integers that are not 16 bits deep; their white point is not known")
    values = np.asarray(image).astype(np.int64)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        values = 65535 - values
    clear = source.info.get("transparency")
    actions: tuple[str, ...] = ("grey16-scaled",)
    if isinstance(clear, int):
        values, actions = np.where(values == clear, 65535, values), (*actions, "alpha-on-white")
    if values.max(initial=0) <= TWELVE_BITS:
        actions = (*actions, "grey16-dark")
    grey = ((values + 128) // 257).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2), actions


def _on_white(image: Image.Image) -> tuple[Pixels, tuple[str, ...]]:
    clear = image.convert("RGBA")
    white = Image.new("RGBA", clear.size, "white")
    actions = (PLAIN_MODES[image.mode],) if image.mode in PLAIN_MODES else ()
    if image.mode in ("LA", "La"):
        actions = ("grey",)
    return np.asarray(Image.alpha_composite(white, clear).convert("RGB")), (*actions, "alpha-on-white")


# -- and back ----------------------------------------------------------------------------------------------


def encode_png(pixels: Pixels) -> bytes:
    """(H,W,3) uint8 as a lossless PNG without metadata; equal pixels give equal bytes."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG", compress_level=6)
    return out.getvalue()


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """The whole image at another size, antialiased bilinear."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def pixels_sha256(pixels: Pixels) -> str:
    """sha256 of "WIDTHxHEIGHT\\n" and the RGB bytes: it survives another compression of the same picture."""
    head = f"{pixels.shape[1]}x{pixels.shape[0]}\n".encode()
    return hashlib.sha256(head + np.ascontiguousarray(pixels).tobytes()).hexdigest()

"""Folders of images as arrays, and back: the only place of files<->pixels and uint8<->float.

`scan` lists (scanning.py), `decode` reads one file (decoding.py), `intake` decodes a whole listing before any work
starts and refuses everything that is wrong with it at once. Torch is imported only to make tensors.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ue_audit.decoding import BadImage, Decoded, Pixels, decode, encode_png, pixels_sha256, resized
from ue_audit.errors import InputRefused, IntegrityError, UsageError
from ue_audit.imagedata import ImageData, to_float, to_uint8
from ue_audit.names import unwritable
from ue_audit.progress import SILENT, Progress
from ue_audit.scanning import Entry, Listing, Parts, Refusal, output_paths, parts, scan
from ue_audit.storage import reserve, resources

__all__ = [
    "BadImage", "Decoded", "Entry", "ImageData", "Intake", "Listing", "Parts", "Pixels", "Refusal", "SourceRecord",
    "decode", "encode_png", "intake", "judge", "output_paths", "parts", "pixels_sha256", "resized", "scan", "spill",
    "take_in", "to_float", "to_uint8",
]  # fmt: skip

IN_MEMORY = 2**28


class SourceRecord(NamedTuple):
    """What a source was: path below its root, class, sha256 of the file, its own size, actions of the intake."""

    path: str
    label: str | None
    sha256: str
    width: int
    height: int
    actions: tuple[str, ...]


@dataclass
class Intake:
    """The images, one source record per row, and what was left out (only with on_bad="skip")."""

    data: ImageData
    sources: list[SourceRecord]
    refused: list[Refusal]
    listing: Listing

    def outputs(self) -> list[str]:
        """The path of each row's PNG below an output's root."""
        return output_paths([Entry(source.path, source.label, self.listing.root) for source in self.sources])

    def describe(self, row: int, path: str) -> dict[str, Any]:
        """The part of an output's record that says where it comes from."""
        source = self.sources[row]
        return {
            "path": path,
            "label": source.label,
            "source": source.path,
            "source_sha256": source.sha256,
            "actions": list(source.actions),
        }

    def native(self, row: int) -> Pixels:
        """A row's image at its own size, read again. Raises IntegrityError if the file is not what was taken in."""
        source = self.sources[row]
        try:
            image = decode(self.listing.root / source.path)
        except BadImage as bad:
            raise IntegrityError(f"{self.listing.root / source.path} has changed: {bad.message}") from bad
        if image.sha256 != source.sha256:
            raise IntegrityError(f"{self.listing.root / source.path} has changed since it was taken in")
        return image.pixels

    def counts(self) -> dict[str, Any]:
        """Files seen, taken and refused, the refused ones also by reason; they add up."""
        reasons = Counter(refusal.reason for refusal in self.refused)
        seen = len(self.sources) + len(self.refused)
        return {"seen": seen, "taken": len(self.sources), "refused": len(self.refused), "reasons": dict(reasons)}

    def warnings(self) -> list[str]:
        """What an owner should know of this intake."""
        empty = [f"class folders without an image are left out: {', '.join(self.listing.empty)}"]
        skipped = [f"{len(self.refused)} files were left out, the first: {self.refused[0]}"] if self.refused else []
        actions = Counter(action for source in self.sources for action in source.actions)
        return [*(empty if self.listing.empty else []), *skipped, *told(actions), *unwritable(self.data.keys)]


TOLD = {
    "icc-profile-dropped": "{} images carry a colour profile, which outputs do not keep",
    "grey16-dark": "{} images are 16-bit grey but use its lowest 12 bits only, and come out nearly black; their white "
    "point is not known: stretch them to the full range first",
}


def told(actions: Mapping[str, int]) -> list[str]:
    """What an owner should know of the actions of an intake, by how often each was taken."""
    return [text.format(actions[action]) for action, text in TOLD.items() if actions.get(action)]


MakeArray = Callable[[str, tuple[int, ...], str], "np.ndarray[Any, Any]"]


def intake(
    listing: Listing,
    *,
    size: int | None = None,
    on_bad: str = "stop",
    max_bad: float = 0.01,
    array: MakeArray | None = None,
    progress: Progress = SILENT,
) -> Intake:
    """Decode a whole listing to S x S; `array(name, shape, dtype)` gives the memory, a plain array by default.

    Raises InputRefused listing every refusal (on_bad="stop", or more than the share `max_bad`), UsageError naming
    the sizes when they differ, or are not square, and `size` is not given.
    """
    taken = _decode_all(listing, size, array or _in_memory, progress)
    refused = sorted([*listing.refused, *taken.refused])
    judge(listing.root, refused, len(taken.sources), on_bad, max_bad)
    _check_sizes(taken.sizes, size, listing)
    left = {source.label for source in taken.sources}
    classes = tuple(name for name in listing.classes if name in left)
    if classes != listing.classes:
        gone = ", ".join(sorted(set(listing.classes) - set(classes)))
        raise InputRefused(f"{listing.root}: no usable image is left in {gone}", details=map(str, refused))
    numbers = [classes.index(source.label) for source in taken.sources if source.label is not None]
    keys = [source.path for source in taken.sources]
    data = ImageData(taken.pixels[: len(keys)], keys, classes, numbers if classes else None)
    return Intake(data, taken.sources, refused, listing)


class Asked(Protocol):
    """The part of a stage's settings that says which images to take, and how."""

    @property
    def limit(self) -> int | None: ...
    @property
    def size(self) -> int | None: ...
    @property
    def on_bad(self) -> str: ...
    @property
    def max_bad(self) -> float: ...


def take_in(
    root: Path, asked: Asked, *, flat: bool | None = False, array: MakeArray | None = None, progress: Progress = SILENT
) -> Intake:
    """Scan and intake of a folder as a stage's settings ask for. Raises what `scan` and `intake` raise."""
    return intake(
        scan(root, flat=flat, limit=asked.limit),
        size=asked.size,
        on_bad=asked.on_bad,
        max_bad=asked.max_bad,
        array=array,
        progress=progress,
    )


class _Taken(NamedTuple):
    pixels: Pixels
    sources: list[SourceRecord]
    refused: list[Refusal]
    sizes: "Counter[tuple[int, int]]"


def _in_memory(name: str, shape: tuple[int, ...], dtype: str) -> "np.ndarray[Any, Any]":
    return np.zeros(shape, dtype)


def spill(folder: Path) -> MakeArray:
    """Arrays in memory up to 256 MiB, larger ones in an unnamed file in `folder` that vanishes with the process."""

    def make(name: str, shape: tuple[int, ...], dtype: str) -> "np.ndarray[Any, Any]":
        if int(np.prod(shape)) * np.dtype(dtype).itemsize <= IN_MEMORY:
            return _in_memory(name, shape, dtype)
        with resources(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                reserve(file.fileno(), int(np.prod(shape)) * np.dtype(dtype).itemsize)
                return np.memmap(file, dtype=np.dtype(dtype), mode="r+", shape=shape)

    return make


def _decode_all(listing: Listing, size: int | None, array: MakeArray, progress: Progress) -> _Taken:
    """Decode every entry once; pixels are kept as long as all have the same square size, or are brought to `size`."""
    taken = _Taken(np.zeros((0, 0, 0, 3), np.uint8), [], [], Counter())
    count = len(listing.entries)
    progress.start("reading", count)
    for entry in listing.entries:
        try:
            image = decode(entry.file)
        except BadImage as bad:
            taken.refused.append(Refusal(entry.path, bad.reason, bad.detail))
        else:
            taken = _keep(taken, entry, image, size, lambda side: array("images", (count, side, side, 3), "uint8"))
        progress.advance()
    progress.stop()
    return taken


def _keep(
    taken: _Taken, entry: Entry, image: Decoded, size: int | None, room: Callable[[int], "np.ndarray[Any, Any]"]
) -> _Taken:
    height, width = image.pixels.shape[:2]
    side = size or width
    if not taken.sources:
        taken = taken._replace(pixels=room(side))
    taken.sizes[width, height] += 1
    if size or (len(taken.sizes) == 1 and width == height):
        taken.pixels[len(taken.sources)] = resized(image.pixels, side, side)
    taken.sources.append(SourceRecord(entry.path, entry.label, image.sha256, width, height, image.actions))
    return taken


def judge(root: Path, refused: list[Refusal], good: int, on_bad: str, max_bad: float) -> None:
    """Raises InputRefused listing every refusal (on_bad="stop", or more than the share `max_bad`, or nothing good)."""
    seen = good + len(refused)
    if refused and (on_bad == "stop" or len(refused) > max_bad * seen or not good):
        allowed = "" if on_bad == "stop" else f"; at most {max_bad:.1%} may be skipped (--max-bad)"
        raise InputRefused(
            f"{root}: {len(refused)} of {seen} files cannot be taken in{allowed}",
            hint="repair or remove them, or leave them out with --on-bad skip",
            details=map(str, refused),
        )


def _check_sizes(sizes: "Counter[tuple[int, int]]", size: int | None, listing: Listing) -> None:
    square = len(sizes) == 1 and all(width == height for width, height in sizes)
    if size is not None or square:
        return
    named = ", ".join(f"{width}x{height} ({count})" for (width, height), count in sizes.most_common(5))
    more = f" and {len(sizes) - 5} more" if len(sizes) > 5 else ""
    raise UsageError(
        f"{listing.root}: expected images of one square size, found {named}{more}",
        hint=f"give the working size, such as --size {max(8, min(224, *(min(pair) for pair in sizes), 224))}",
    )

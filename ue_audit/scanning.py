"""Which files of a folder are images to take in, and which names, links and files are refused, with the reason.

The rules are stricter than torchvision's ImageFolder, which follows links out of the folder and into loops and
fails only when an image is loaded. Nothing is opened here, only listed; `imagefolder` decodes.

Hidden entries and `ue-audit.*` files at the root are passed over; class folders without an image are left out of
the classes and named in `Listing.empty`.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from posixpath import splitext
from typing import NamedTuple, Protocol, TypeVar

from ue_audit.errors import IntegrityError, ResourceError, UsageError
from ue_audit.names import NAME_BYTES, bad_name, fold, is_litter, printable, twins

SUFFIXES = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".webp": "WEBP", ".bmp": "BMP",
    ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM", ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip
SIDECARS = {".xmp", ".aae"}  # edits that photo programs note beside an image
OURS = "ue-audit."
JUNCTION = 0xA0000003  # the tag of a folder of Windows that is really a way to another one
PARTS = ("train", "val", "test", "raw")


class Entry(NamedTuple):
    """An image to take in. `path`: below the root, with "/"; `label`: its class, None in a flat listing."""

    path: str
    label: str | None
    file: Path


class Refusal(NamedTuple):
    """What is not taken in: printable path below the root, a short reason code, and the finding in words."""

    path: str
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason} ({self.detail})"


@dataclass(frozen=True)
class Listing:
    """A folder as scanned: entries and classes sorted, refusals in the order of their paths."""

    root: Path
    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    refused: tuple[Refusal, ...]
    empty: tuple[str, ...] = ()


class Parts(NamedTuple):
    """Where a data set's parts are; `train` is the folder itself when it holds no `train/`."""

    train: Path
    test: Path | None
    val: Path | None


def parts(folder: Path) -> Parts:
    """The parts of `folder`: itself an ImageFolder root, or a holder of train/ and, if there, test/ and val/.

    A `train/` with images in it is a class of that name, unless all that lies beside it is a part, too.
    """
    names = {path.name for path in _folders(folder)}
    train = folder / "train"
    flat = len(names) > 1 and names <= set(PARTS)
    if "train" not in names or ((not _folders(train) or _has_images(train)) and not flat):
        return Parts(folder, None, None)
    test, val = (folder / name if name in names else None for name in ("test", "val"))
    return Parts(train, test, val)


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.iterdir() if path.is_file())


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise UsageError(f"expected a folder of images at {folder}, found {found}")
    try:
        return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        raise ResourceError(f"cannot list {folder}: {error.strerror}") from error


def scan(root: Path, *, flat: bool | None = False, limit: int | None = None) -> Listing:
    """The images below `root`, sorted by path; nothing is decoded.

    flat: class folders are ignored (labels None); None: as the folder is, flat if all its images lie in the root.
    limit: that many images, taken from the classes in turn. Raises UsageError for a root that is no folder or holds
    no image, IntegrityError for unfinished work.
    """
    folders = _folders(root)
    if (root / "ue-audit.journal").exists() and not (root / "ue-audit.json").exists():
        raise IntegrityError(
            f"{root} is unfinished work of ue-audit", hint="run the command that makes it again, it resumes"
        )
    walk = _Walk(root.resolve(), bool(flat))
    walk.folder(root.resolve(), "")
    if flat is None and not walk.entries and any(refusal.reason == "outside-class" for refusal in walk.refused):
        return scan(root, flat=True, limit=limit)
    entries = evenly(walk.kept(), limit)
    if not entries and not walk.refused:
        raise UsageError(f"no images in {root}", hint="expected <class>/<image>" if not flat else "")
    labels = {entry.label for entry in entries if entry.label is not None}
    used = {path.partition("/")[0] for path, *_ in chain(walk.entries, walk.refused)}
    empty = () if flat else tuple(sorted(path.name for path in folders if path.name not in used))
    refused = tuple(sorted(walk.refused))
    return Listing(root, tuple(entries), tuple(sorted(labels)), refused, empty)


class Labelled(Protocol):
    """What `evenly` has to know of an image."""

    @property
    def path(self) -> str: ...
    @property
    def label(self) -> str | None: ...


Item = TypeVar("Item", bound=Labelled)


def evenly(entries: Sequence[Item], limit: int | None) -> list[Item]:
    """At most `limit` entries, taken from the classes in turn, sorted by path."""
    if limit is None or limit >= len(entries):
        return list(entries)
    classes: dict[str | None, list[Item]] = {}
    for entry in entries:
        classes.setdefault(entry.label, []).append(entry)
    turns = chain.from_iterable(zip_longest(*classes.values()))
    taken = [entry for entry in turns if entry is not None][:limit]
    return sorted(taken, key=lambda entry: entry.path)


@dataclass
class _Walk:
    """One pass over a tree that follows no folder link and opens no file."""

    root: Path
    flat: bool
    entries: list[Entry] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    def folder(self, folder: Path, below: str) -> None:
        try:
            with os.scandir(folder) as found:
                items = sorted(found, key=lambda item: item.name)
        except OSError as error:
            return self.refuse(below or ".", "unreadable", f"cannot be listed: {error.strerror}")
        for item in self.names(items, below):
            self.item(item, f"{below}/{item.name}" if below else item.name, at_root=not below)
        return None

    def names(self, items: Sequence["os.DirEntry[str]"], below: str) -> Iterator["os.DirEntry[str]"]:
        """The items worth a look whose names are in order; the others are refused or passed over."""
        items = [item for item in items if not _passed_over(item.name, at_root=not below)]
        same = twins(item.name for item in items)
        for item in items:
            problem = bad_name(item.name) or same.get(item.name)
            if problem is None:
                yield item
            else:
                self.refuse(f"{below}/{item.name}" if below else item.name, *problem)

    def item(self, item: "os.DirEntry[str]", path: str, at_root: bool) -> None:
        if is_link(item):
            problem = _bad_link(Path(item.path), self.root)
            if problem:
                return self.refuse(path, *problem)
        elif item.is_dir(follow_symlinks=False):
            if at_root and not self.flat and fold(item.name).startswith(OURS):
                return self.refuse(path, "name-reserved", f"{OURS}* is kept for ue-audit's own files")
            return self.folder(Path(item.path), path)
        elif not item.is_file(follow_symlinks=False):
            return self.refuse(path, "not-a-file", "a pipe, socket or device")
        return self.file(item, path, at_root)

    def file(self, item: "os.DirEntry[str]", path: str, at_root: bool) -> None:
        suffix = splitext(path)[1].lower()
        if item.name.startswith("."):
            self.refuse(path, "hidden", "a hidden file inside a class folder")
        elif suffix not in SUFFIXES:
            self.refuse(path, "unsupported", f"{suffix or 'no suffix'}; expected {', '.join(SUFFIXES)}")
        elif at_root and not self.flat:
            self.refuse(path, "outside-class", "expected <class>/<image>")
        else:
            label = None if self.flat else path.partition("/")[0]
            self.entries.append(Entry(path, label, Path(item.path)))

    def refuse(self, path: str, reason: str, detail: str) -> None:
        self.refused.append(Refusal(printable(path), reason, detail))

    def kept(self) -> list[Entry]:
        """The entries sorted by path, without those whose output name no file system would take."""
        self.entries.sort()
        kept = []
        for entry, target in zip(self.entries, output_paths(self.entries), strict=True):
            if len(target.rpartition("/")[2].encode()) > NAME_BYTES:
                self.refuse(entry.path, "name-long", f"its PNG would have a name of over {NAME_BYTES} bytes")
            else:
                kept.append(entry)
        return kept


def _passed_over(name: str, at_root: bool) -> bool:
    ending = splitext(name)[1]
    own = name.startswith(OURS) and ending in (".json", ".jsonl", ".sums", ".journal", ".tmp")
    left = is_litter(name) or ending.lower() in SIDECARS
    return left or (at_root and (name.startswith(".") or own))


def is_link(item: "os.DirEntry[str]") -> bool:
    """Links, and the junctions of Windows, which claim to be folders."""
    folder = item.is_dir(follow_symlinks=False)
    tag = getattr(item.stat(follow_symlinks=False), "st_reparse_tag", 0) if folder else 0
    return item.is_symlink() or tag == JUNCTION


def _bad_link(link: Path, root: Path) -> tuple[str, str] | None:
    try:
        target = link.resolve(strict=True)
        mode = target.stat().st_mode
    except (RuntimeError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            return "link-broken", "the link leads nowhere"
        return "link-loop", "the link leads back to itself"
    if not target.is_relative_to(root):
        return "link-outside", "the link leaves the folder"
    if stat.S_ISDIR(mode):
        loop = link.is_relative_to(target)
        return ("link-loop", "the link leads to a folder it is in") if loop else ("link-folder", "links a folder")
    return None if stat.S_ISREG(mode) else ("not-a-file", "the link leads to a pipe, socket or device")


def output_paths(entries: Sequence[Entry]) -> list[str]:
    """Where each entry's PNG goes: "class/stem.png"; of names that would meet, all keep theirs ("a.jpg.png")."""
    short = [f"{splitext(entry.path)[0]}.png" for entry in entries]
    paths, met = short, True
    while met:
        seen: dict[str, int] = {}
        for path in paths:
            seen[fold(path)] = seen.get(fold(path), 0) + 1
        met = False
        for row, entry in enumerate(entries):
            if seen[fold(paths[row])] > 1 and paths[row] != f"{entry.path}.png":
                paths[row], met = f"{entry.path}.png", True
    return paths

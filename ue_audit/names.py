"""File names: which are refused, which Windows lacks, which are held for the same elsewhere, how they are shown."""

import re
import unicodedata
from collections.abc import Iterable

BREAKING = ("Cc", "Zl", "Zp")  # Unicode categories: control characters, line and paragraph separators
NAME_BYTES = 255  # of a file name, on all systems
FORBIDDEN = '<>:"|?*'  # in names on Windows; "a:b" would be a second stream of the file "a"
DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\..*)?$", re.IGNORECASE)

LITTER = {".ds_store", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini"}
NOISE = " (noise of the same norm)"  # after the name of a protected set: its noise control, which has no folder


def is_litter(name: str) -> bool:
    """Whether file managers leave such a file where somebody has looked: nobody's data."""
    return name.lower() in LITTER or name.startswith("._")


def bad_name(name: str) -> tuple[str, str] | None:
    """The reason code and finding for a name that is refused, else None."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "name-encoding", "the name is not valid UTF-8"
    if "\\" in name:
        return "name-backslash", "a backslash in the name is escaped by sha256sum and a separator on Windows"
    if not name.isprintable() and any(unicodedata.category(letter) in BREAKING for letter in name):
        return "name-control", "a control character or line break in the name"
    return None


def unportable(path: str) -> str | None:
    """Why Windows cannot write a path ("/" between its names), else None."""
    for name in path.split("/"):
        if any(letter in FORBIDDEN for letter in name):
            return f"one of {FORBIDDEN}"
        if name.endswith((".", " ")):
            return "a dot or space at the end of a name"
        if DEVICES.match(name):
            return "the name of a device"
    return None


def unwritable(paths: Iterable[str]) -> list[str]:
    """What the owner should know of paths that Windows cannot write."""
    found = [(path, why) for path in paths if (why := unportable(path)) is not None]
    if not found:
        return []
    first, why = found[0]
    return [f"{len(found)} names cannot be written on Windows, the first for {why}: {printable(first)}"]


def folder_name(name: str) -> str:
    """A name from outside as that of a folder, the same and writable on all systems: what may not be becomes "_"."""
    unsafe = f"/{FORBIDDEN}"
    made = "".join("_" if letter in unsafe or bad_name(letter) else letter for letter in composed(name))
    made = made.encode()[:NAME_BYTES].decode(errors="ignore").rstrip(". ").lstrip(" ") or "_"
    return f"_{made}" if made.startswith(".") or DEVICES.match(made) else made


def twins(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Reason code and finding for the names of one folder that some file systems hold for the same."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(fold(name), []).append(name)
    groups = [group for group in alike.values() if len(group) > 1]
    return {
        name: ("name-twin", "differs only in case or Unicode form from " + printable(_other(group, name)))
        for group in groups
        for name in group
    }


def _other(group: list[str], name: str) -> str:
    return next(other for other in group if other != name)


def composed(name: str) -> str:
    """The one Unicode form of a name: macOS takes names apart ("e" and its accent) that others keep together."""
    return unicodedata.normalize("NFC", name)


def fold(name: str) -> str:
    """What a file system that ignores case and Unicode form takes a name for."""
    return composed(composed(name).casefold())


def printable(path: str) -> str:
    """A path with undecodable bytes and control characters written as escapes."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        letter if unicodedata.category(letter) not in BREAKING else ascii(letter)[1:-1] for letter in text
    )

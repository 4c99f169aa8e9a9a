"""File names: which are refused, which are held for the same elsewhere, how they are shown."""

import unicodedata
from collections.abc import Iterable

BREAKING = ("Cc", "Zl", "Zp")  # Unicode categories: control characters, line and paragraph separators


def bad_name(name: str) -> tuple[str, str] | None:
    """The reason code and finding for a name that is refused, else None."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "name-encoding", "the name is not valid UTF-8"
    if "\\" in name:
        return "name-backslash", "a backslash in the name is escaped by sha256sum and a separator on Windows"
    if any(unicodedata.category(letter) in BREAKING for letter in name):
        return "name-control", "a control character or line break in the name"
    return None


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


def fold(name: str) -> str:
    """What a file system that ignores case and Unicode form takes a name for."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def printable(path: str) -> str:
    """A path with undecodable bytes and control characters written as escapes."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        letter if unicodedata.category(letter) not in BREAKING else ascii(letter)[1:-1] for letter in text
    )

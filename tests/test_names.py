"""Names: which Windows cannot write, what becomes of those from outside, and their Unicode forms."""

import unicodedata
from itertools import product

import as_on_windows
import hostile
import pytest

from ue_audit import names

ODD = [
    "CON", "con.png", "Nul.tar.gz", "aux .txt", "COM1", "lpt9.x", "COM\u00b2", "conin$", "prn.", "a:b", "what?", "a*",
    'say "no"', "a<b", "a|b", "end.", "end ", "end. .", "...", " ", "", ".", "..", "a/b", "a\\b", "N/A", ".hidden",
    "\u65e5\u672c", "cafe\u0301", "x" * 300, "\u00e9" * 200, "T-shirt/top", "tab\tstop", "x" * 254 + ". y", "\ud800",
]  # fmt: skip
FINE = [
    "cat", "console", "auxiliary", "com10", "nullable.png", "\u65e5\u672c\u8a9e", "caf\u00e9", "a b", "-rf", "[red]",
    "%41", "a.b", "COMMA", "lpt", "con-1", "_con", "it's", "~", "{x}", "a,b;c=d",
]  # fmt: skip


@pytest.mark.parametrize("name", [*ODD, *FINE, *hostile.STRINGS], ids=ascii)
def test_every_class_name_becomes_a_folder_of_every_system(name: str) -> None:
    made = names.folder_name(name)
    assert made and names.bad_name(made) is None and names.unportable(made) is None and "/" not in made
    assert not as_on_windows.unwritable(made) and not made.startswith((".", " ")) and len(made.encode()) <= 255
    assert names.folder_name(made) == made == unicodedata.normalize("NFC", made)
    assert names.folder_name(unicodedata.normalize("NFD", name)) == made, "whoever wrote the name"


@pytest.mark.parametrize("name", FINE, ids=ascii)
def test_names_that_are_fine_stay(name: str) -> None:
    assert names.folder_name(name) == name and names.unportable(name) is None


@pytest.mark.parametrize("ending", ["", ".png", ".v1.png", " .png"])
def test_devices_have_any_ending_and_case(ending: str) -> None:
    found = [names.unportable(f"class/{name}{ending}") for name in ("CON", "prn", "Aux", "nul", "COM7", "lpt1")]
    assert found == ["the name of a device"] * 6


def test_a_path_is_judged_name_by_name() -> None:
    assert names.unportable("a/b/c.png") is None
    assert names.unportable("a:b/c.png") == f"one of {names.FORBIDDEN}"
    assert names.unportable("a./c.png") == "a dot or space at the end of a name"
    told = names.unwritable(["a/1.png", "a/what?.png", "nul/1.png"])
    assert told == [f"2 names cannot be written on Windows, the first for one of {names.FORBIDDEN}: a/what?.png"]
    assert names.unwritable(["a/1.png"]) == []


def test_our_rules_are_those_of_the_stand_in() -> None:
    """Two sets of rules written apart agree on what can be written."""
    for stem, end in product(["a", "con", "com1", "lpt", "x?", "a b"], ["", ".", " ", ".png", " .png", ". "]):
        assert bool(names.unportable(stem + end)) == as_on_windows.unwritable(stem + end), stem + end

"""Pairs by path: the same name first, then the name with .png behind it, then any ending."""

from pathlib import Path

import pytest

from ue_audit.pairing import pair
from ue_audit.scanning import Entry


def entries(*paths: str) -> list[Entry]:
    return [Entry(path, path.partition("/")[0], Path(path)) for path in paths]


def pairs(clean: list[str], protected: list[str], flat: bool = False) -> list[tuple[str, str]]:
    found = pair(entries(*clean), entries(*protected), flat=flat)
    assert not (found.no_protected or found.no_clean or found.unclear)
    return [(c.path, p.path) for c, p in found.matched]


@pytest.mark.parametrize(
    ("clean", "protected", "flat"),
    [
        (["a/1.png", "b/1.png"], ["a/1.png", "b/1.png"], False),
        (["a/1.jpg", "b/1.JPEG"], ["a/1.png", "b/1.png"], False),
        (["a/sub/1.jpg", "a/1.jpg"], ["a/1.png", "a/sub/1.png"], False),
        (["a/1.jpg", "a/1.png"], ["a/1.jpg.png", "a/1.png.png"], False),
        (["a/1.jpg", "a/1.png"], ["a/1.png", "a/1.webp"], False),
        (["a/1.v2.jpg", "a/1.jpg"], ["a/1.png", "a/1.v2.png"], False),
        (["a/1.jpg", "b/2.jpg"], ["1.png", "2.png"], True),
        (["a/1.jpg", "b/2.jpg"], ["2.jpg.png", "1.png"], True),
        (["caf\u00e9/\u00e9.jpg"], ["cafe\u0301/e\u0301.png"], False),
        (["cafe\u0301/e\u0301.jpg", "a/1.png"], ["\u00e9.jpg.png", "1.png"], True),
        (["a/IMG_1.JPG", "a/img_2.jpg"], ["A/img_1.png", "A/IMG_2.PNG"], False),
        (["a/\u00c9.JPG"], ["A/e\u0301.png"], False),
    ],
)
def test_everything_has_its_pair(clean: list[str], protected: list[str], flat: bool) -> None:
    found = pairs(clean, protected, flat)
    assert [c for c, _ in found] == sorted(clean) and {p for _, p in found} == set(protected)
    assert pairs(clean[::-1], protected[::-1], flat) == found, "whatever the order"


def test_names_that_meet_are_told_apart() -> None:
    assert pairs(["a/1.jpg", "a/1.png"], ["a/1.png", "a/1.webp"]) == [("a/1.jpg", "a/1.webp"), ("a/1.png", "a/1.png")]
    assert pairs(["a/1.jpg", "a/1.png"], ["a/1.jpg.png", "a/1.png.png"])[0] == ("a/1.jpg", "a/1.jpg.png")


def test_what_has_no_counterpart() -> None:
    found = pair(entries("a/1.png", "a/2.png"), entries("a/2.png", "b/1.png"), flat=False)
    assert [c.path for c, _ in found.matched] == ["a/2.png"]
    assert [e.path for e in found.no_protected] == ["a/1.png"] and [e.path for e in found.no_clean] == ["b/1.png"]


@pytest.mark.parametrize(
    ("clean", "protected", "flat", "words"),
    [
        (["a/1.jpg"], ["a/1.png", "a/1.webp"], False, "a/1.jpg: could be a/1.png or a/1.webp"),
        (["a/1.jpg", "a/1.webp"], ["a/1.bmp"], False, "a/1.jpg or a/1.webp: could be a/1.bmp"),
        (["a/1.png", "b/1.png"], ["1.png"], True, "a/1.png or b/1.png: could be 1.png"),
    ],
)
def test_what_could_be_several(clean: list[str], protected: list[str], flat: bool, words: str) -> None:
    found = pair(entries(*clean), entries(*protected), flat=flat)
    assert found.unclear == [words] and not (found.matched or found.no_protected or found.no_clean)

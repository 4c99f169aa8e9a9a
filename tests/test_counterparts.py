"""Which rows of two reports are the same: by names first, then by settings, then by folders."""

from typing import Any

from ue_audit import counterparts
from ue_audit.counterparts import Item


def item(name: str, folder: str = "", **settings: Any) -> Item:
    return Item(name, folder or name, settings, {})


def paired(first: list[Item], second: list[Item]) -> tuple[list[tuple[str, str]], tuple[list[str], list[str]]]:
    pairs, only = counterparts.paired(first, second)
    return [(a.folder, b.folder) for a, b in pairs], only


def test_names_decide_and_the_rest_is_only_in_one() -> None:
    first, second = [item("emn", eps=8), item("tap")], [item("lsp"), item("emn", "other.emn", eps=4)]
    assert paired(first, second) == ([("emn", "other.emn")], (["tap"], ["lsp"]))


def test_among_several_of_a_name_settings_count_before_folders() -> None:
    first = [item("emn", "a", eps=8), item("emn", "b", eps=4)]
    second = [item("emn", "a", eps=4), item("emn", "b", eps=8)]
    assert paired(first, second) == ([("a", "b"), ("b", "a")], ([], []))


def test_then_folders_then_the_last_two() -> None:
    first = [item("emn", "a", eps=8), item("emn", "b", eps=4), item("emn", "c", eps=2)]
    second = [item("emn", "b", eps=1), item("emn", "a", eps=3), item("emn", "x", eps=5)]
    assert paired(first, second) == ([("a", "a"), ("b", "b"), ("c", "x")], ([], []))


def test_two_that_cannot_be_told_apart_are_not_guessed() -> None:
    first = [item("emn", "a", eps=8), item("emn", "b", eps=4)]
    assert paired(first, [item("emn", "x", eps=5)]) == ([], (["emn"], ["emn"]))


def test_exchanging_the_sides_exchanges_the_pairs() -> None:
    first = [item("emn", "a", eps=8), item("emn", "b", eps=8), item("tap"), item("lsp")]
    second = [item("lsp", "z"), item("emn", "c", eps=8), item("emn", "b", eps=8), item("ops")]
    there, (only, more) = paired(first, second)
    back, (of_second, of_first) = paired(second, first)
    assert sorted((b, a) for a, b in back) == sorted(there)
    assert (only, more) == (of_first, of_second) == (["tap"], ["ops"])

"""Which rows of two reports are the same, from the contents of report.json. Pure.

They are where protection, countermeasure and learner have the same names. Among several of one name those with equal
settings are paired first, then those of equal folder names, then the last two.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ue_audit.names import NOISE

Report = Mapping[str, Any]


class Item(NamedTuple):
    """A row of one report: what it is called, whence it comes, how that was made, and the row."""

    name: str
    folder: str
    settings: dict[str, Any]
    row: Mapping[str, Any]


Pair = tuple[Item, Item]


def several(reports: tuple[Report, Report]) -> bool:
    """Whether there is more than one learner in both together."""
    return len({learner["name"] for report in reports for learner in report["setup"]["learners"]}) > 1


def cells(report: Report, learners: bool) -> Iterator[Item]:
    """The measured training sets, named with their learners where asked."""
    recipes = {learner["name"]: learner["recipe"] for learner in report["setup"]["learners"]}
    protected = {(row["folder"], row["learner"]): row["protected"] for row in report["countermeasures"]}
    for cell in (cell for cell in report["cells"] if cell["accuracy"] is not None):
        role, folder, learner = cell["role"], cell["folder"], cell["learner"]
        own = role in ("protected", "noise")
        source = folder.removesuffix(NOISE) if own else protected.get((folder, learner), "")
        made = {"protection": _made(report, source), "countermeasure": _made(report, folder)}
        if role not in ("purified", "ceiling"):
            del made["countermeasure"]
        words = {
            "clean": "clean images" if cell["learner_kind"] != "reference" else "the attacker's own images alone",
            "noise": f"noise as strong as {_method(report, source)}",
            "protected": _method(report, source),
            "purified": f"{_method(report, source)} + {cell['countermeasure']}",
            "ceiling": f"clean + {cell['countermeasure']} (ceiling)",
        }[role]
        name = f"{words}, {learner}" if learners else words
        yield Item(name, folder, made | {"learner": recipes.get(learner)}, cell)


def attacks(report: Report) -> Iterator[Item]:
    """The countermeasures, purifiers and learners alike."""
    for row in report["countermeasures"]:
        name = f"{_method(report, row['protected'])} + {row['countermeasure']}, {row['victim']}"
        made = {"protection": _made(report, row["protected"]), "countermeasure": _made(report, row["folder"])}
        yield Item(name, row["folder"], made | {"settings": row["settings"]}, row)


def audits(report: Report) -> Iterator[Item]:
    """The verdicts of each protected set."""
    for row in report["audits"]:
        name = f"{_method(report, row['protected'])}, {row['learner']}"
        yield Item(name, row["protected"], {"protection": _made(report, row["protected"])}, row)


def origin(report: Report, folder: str) -> Mapping[str, Any]:
    """A folder's row of the provenance; nothing where there is none."""
    return next((row for row in report["provenance"] if row["name"] == folder), {})


def _method(report: Report, folder: str) -> str:
    """What a protected set is called: its method, or its folder where no manifest says."""
    return str(origin(report, folder).get("method") or folder)


def _made(report: Report, folder: str) -> dict[str, Any] | None:
    """Settings and seed; None where they are not known."""
    row = origin(report, folder)
    settings = row.get("settings")
    return None if settings is None else {**settings, "seed": row["seed"]}


def paired(first: list[Item], second: list[Item]) -> tuple[list[Pair], tuple[list[str], list[str]]]:
    """The rows that are the same, in the first one's order, and the names of those only in one."""
    found: list[Pair] = []
    for name in dict.fromkeys(item.name for item in first):
        left, right = ([item for item in side if item.name == name] for side in (first, second))
        for same in (_same_settings, _same_folder):
            found += _take(left, right, same)
        found += zip(left, right, strict=True) if len(left) == len(right) == 1 else ()
    order = {id(item): number for number, item in enumerate(first)}
    used = {id(item) for pair in found for item in pair}
    only = [list(dict.fromkeys(i.name for i in side if id(i) not in used)) for side in (first, second)]
    return sorted(found, key=lambda pair: order[id(pair[0])]), (only[0], only[1])


def _take(left: list[Item], right: list[Item], same: Callable[[Item, Item], bool]) -> Iterator[Pair]:
    """Takes the pairs that are `same` out of both lists, by the order of their folders."""
    for a in sorted(left, key=lambda item: item.folder):
        b = next((item for item in sorted(right, key=lambda item: item.folder) if same(a, item)), None)
        if b is not None:
            left.remove(a)
            right.remove(b)
            yield a, b


def _same_settings(a: Item, b: Item) -> bool:
    return a.settings == b.settings


def _same_folder(a: Item, b: Item) -> bool:
    return a.folder == b.folder

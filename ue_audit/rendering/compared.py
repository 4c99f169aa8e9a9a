"""Two audits side by side, from the content of comparison.json alone: for the terminal and as Markdown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from ue_audit.rendering import markdown as form
from ue_audit.rendering.figures import ABSENT, percent, points, ratio, remaining
from ue_audit.rendering.table import Table, estimate
from ue_audit.rendering.text import markdown as quoted
from ue_audit.rendering.text import plain

Found = Mapping[str, Any]
MARKS = {"same": ("✓", "green"), "differs": ("!", "yellow"), "unknown": ("?", "yellow")}
SHARED = "the same trainings"
NOTE = (
    "Second minus first, with the 95 % interval where both have several seeds. Both sides count as independent: where "
    "they share test images, or the clean trainings, the intervals are rather too wide."
)


def tables(found: Found) -> list[Table]:
    """What the two have in common, with differences; without rows where they have nothing."""
    made = (_verdict(found), _audits(found), _attacks(found), _accuracies(found))
    return [table for table in made if table.rows]


def markdown(found: Found) -> str:
    """The whole comparison."""
    names = [quoted(name) for name in _sides(found)]
    notes = [f"- {MARKS[note['state']][0]} {quoted(note['text'])}" for note in found["notes"]]
    parts = [
        f"# {names[0]} and {names[1]}",
        *(f"**{quoted(found[side]['name'])}**: {quoted(found[side]['sentence'])}" for side in ("first", "second")),
        "\n".join(notes),
        *(form.section(table) for table in tables(found)),
        *(_listed(title, items) for title, items in _lists(found)),
        quoted(found["generator"]),
    ]
    return "\n\n".join(parts) + "\n"


def _listed(title: str, items: Sequence[str]) -> str:
    return "\n".join([f"## {quoted(title)}\n", *(f"- {quoted(item)}" for item in items)])


def panel(found: Found) -> RenderableType:
    """The same for the terminal. No markup is parsed anywhere."""
    parts: list[RenderableType] = []
    for side in ("first", "second"):
        parts.append(Text.assemble((plain(found[side]["name"]), "bold"), f": {plain(found[side]['sentence'])}"))
    parts += [Text(), *(_noted(note) for note in found["notes"]), Text()]
    for table in tables(found):
        parts += [Text(plain(table.caption), "bold"), _grid(table), Text()]
    parts += [Text(plain(NOTE), "dim"), Text()]
    for title, items in _lists(found):
        parts += [Text(plain(title), "bold"), *(Text(f"  {plain(item)}") for item in items), Text()]
    return Panel(Group(*parts[:-1]), title=Text("two audits"), title_align="left", expand=False, box=box.ROUNDED)


def _verdict(found: Found) -> Table:
    rows = [
        ("By", *(found[side]["chosen"] or ABSENT for side in ("first", "second")), ""),
        ("Survival", *_three(found["verdict"]["survival"], remaining)),
        ("Effect, points", *_three(found["verdict"]["effect"], points)),
        *((name, *(_count(found[side][key]) for side in ("first", "second")), "") for name, key in COUNTED),
    ]
    return Table("verdict", "The verdicts", ("", *_sides(found), "Difference"), rows)


COUNTED = (("Grade", "grade"), ("Training images", "images"), ("Seeds", "seeds"))


def _count(value: Any) -> str:
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _audits(found: Found) -> Table:
    """One row per protected set, where there are several."""
    rows = [
        (row["name"], *_three(row["effect"], points)[2:], *_three(row["survival"], remaining))
        for row in found["audits"]
    ]
    headers = ("Protected set", "Effect, difference", *(f"Survival, {name}" for name in _sides(found)), "Difference")
    return Table("audits", "Every protected set", headers, rows if len(rows) > 1 else [])


def _attacks(found: Found) -> Table:
    rows, marked = [], set()
    for number, row in enumerate(found["attacks"]):
        left, back = row["survival"], row["recovery"]
        rows.append((row["name"], *_three(left, remaining, row["shared"]), *_three(back, ratio, row["shared"])[2:]))
        marked |= {number} if _apart(left["difference"]) else set()
    headers = ("Countermeasure", *(f"Survival, {name}" for name in _sides(found)), "Difference", "Of recovery")
    return Table("attacks", "What each countermeasure leaves", headers, rows, note=NOTE, marked=frozenset(marked))


def _accuracies(found: Found) -> Table:
    rows = [(row["name"], *_three(row["accuracy"], percent, row["shared"])) for row in found["accuracies"]]
    marked = frozenset(n for n, row in enumerate(found["accuracies"]) if _apart(row["accuracy"]["difference"]))
    headers = ("Trained on", *(f"Accuracy, {name}, %" for name in _sides(found)), "Difference, points")
    return Table("accuracies", "Accuracy by training set", headers, rows, note=NOTE, marked=marked)


def _sides(found: Found) -> tuple[str, str]:
    return found["first"]["name"], found["second"]["name"]


def _three(
    value: Mapping[str, Any], write: Callable[[float | None], str], shared: bool = False
) -> tuple[str, str, str]:
    first, second, difference = (estimate(value[key], write) for key in ("first", "second", "difference"))
    return first, second, SHARED if shared else difference


def _apart(difference: Mapping[str, float | None] | None) -> bool:
    """Whether 0 lies outside the interval."""
    low, high = (difference[key] if difference else None for key in ("low", "high"))
    return low is not None and high is not None and not low <= 0 <= high


def _lists(found: Found) -> Iterator[tuple[str, Sequence[str]]]:
    if found["settings"]:
        yield "Made differently", [f"{entry['of']}: {', '.join(entry['changes'])}" for entry in found["settings"]]
    for side in ("first", "second"):
        if found[f"only_{side}"]:
            yield f"Only in {found[side]['name']}", [", ".join(found[f"only_{side}"])]


def _noted(note: Mapping[str, str]) -> Text:
    mark, style = MARKS[note["state"]]
    return Text.assemble((mark, style), f" {plain(note['text'])}")


def _grid(table: Table) -> Grid:
    shown = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, header in enumerate(table.headers):
        shown.add_column(Text(plain(header)), justify="right" if number else "left")
    for number, row in enumerate(table.rows):
        shown.add_row(*(Text(plain(cell)) for cell in row), style="bold" if number in table.marked else "")
    return shown

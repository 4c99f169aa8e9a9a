"""The table of `ue-audit list methods`, as markup for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from ue_audit.rendering.text import safe

NEEDS = {"own": "clean labelled images of the attacker's own"}  # where the word alone does not say it


def method_lines(kinds: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Every method with its paper, cost and needs, and what only its kind has, as markup."""
    lines = []
    for kind, rows in kinds.items():
        lines.append(f"[bold]{safe(kind)}[/]")
        for row in rows:
            facts = [*_budget(row), *_hardens(row), _cost(row), _needs(row)]
            lines += [f"  [bold]{safe(row['name'])}[/]  {safe(row['what'])}", f"    {safe('; '.join(facts))}"]
            lines.append(f"    {safe(row['paper'])}")
    return "\n".join(lines)


def _needs(row: Mapping[str, Any]) -> str:
    return f"needs {', '.join(NEEDS.get(need, need) for need in row['needs'])}" if row["needs"] else "needs nothing"


def _hardens(row: Mapping[str, Any]) -> list[str]:
    if "counters" not in row:
        return []
    return ["a reference" if row["reference"] else f"hardens {row['counters']}" if row["counters"] else "a victim"]


def _budget(row: Mapping[str, Any]) -> list[str]:
    if "budget" not in row:
        return []
    limit = row["limit"]
    amounts = {"linf": f"linf {255 * limit:g}/255", "l2": f"l2 {limit:g} at 32 px", "l0": f"l0 {limit:g} pixels"}
    return [amounts.get(row["budget"], "no norm bounds it")]


def _cost(row: Mapping[str, Any]) -> str:
    if not any(row["passes"].values()):
        return "no network passes"
    passes = ", ".join(f"{name} {count:,.1f}".removesuffix(".0") for name, count in row["passes"].items())
    return f"network passes an image: {passes}"

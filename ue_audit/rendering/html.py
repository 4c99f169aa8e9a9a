"""report.html: one file without scripts or outside references, from report.json and the image sheet alone."""

import base64
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from ue_audit.rendering import charts, figures, graph, matrix, price_chart
from ue_audit.rendering.attackers import FRONTIER
from ue_audit.rendering.sheet import GAP
from ue_audit.rendering.tables import all_tables
from ue_audit.rendering.text import plain

_TOGETHER = re.compile(r"(?<=\d,) (?=[−\d.]+\])|(?<=\d) (?=(?:h|min|s|points|dB)\b|%)")  # "[0.1, 0.2]", "3 min"
MARKED = {"countermeasures": " (chosen)", "prices": FRONTIER}  # why a row stands out, at the end of its name
STATES = {"ok": ("✓", "holds"), "warn": ("!", "note"), "fail": ("✗", "fails"), "unknown": ("?", "open")}


def render(report: Mapping[str, Any], sheet: bytes | None = None) -> str:
    """The whole report; `sheet` is the PNG of the image sheet. Equal arguments give equal text."""
    return _template().render(
        report=report,
        tables=all_tables(report),
        strips={"accuracies": charts.accuracy_strips(report), "countermeasures": charts.survival_strips(report)},
        scale=charts.survival_scale(report),
        curves=charts.curves(report),
        graph=graph.graph(report),
        heat=matrix.heat(report),
        box=(graph.WIDTH, graph.HEIGHT),
        price_charts=price_chart.charts(report),
        sheet=base64.b64encode(sheet).decode("ascii") if sheet and report["sheet"] else None,
        states=STATES,
        mark_words=MARKED,
        figures=figures,
        gap=GAP,
    )


@cache
def _template() -> jinja2.Template:
    """Every value passes through `plain` and is then escaped; a name that is missing is an error."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_harmless
    )
    text = resources.files("ue_audit.rendering").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text)


def _harmless(value: Any) -> Any:
    return _TOGETHER.sub("\N{NO-BREAK SPACE}", plain(value)) if type(value) is str else value

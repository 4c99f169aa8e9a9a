"""The frontier's plot: places by hand, names that are shown and not obeyed."""

import xml.etree.ElementTree as ET

from ue_audit.rendering.scatter import ACROSS, AREA, FILLED, HEIGHT, MARGIN, UP, WIDTH, svg


def row(what: str, rho: float | None, psnr: float, evaluations: int, filled: bool = False) -> dict:
    return {"what": what, "figures": {ACROSS: rho, UP: psnr, AREA: evaluations, FILLED: 1 if filled else None}}


def test_least_residual_is_left_and_best_psnr_on_top() -> None:
    plot = svg([row("a", 0.2, 25, 4, True), row("b", 0.6, 29, 80), row("c", 0.4, 27, 4), row("d", None, 27, 4)])
    dots = ET.fromstring(plot).findall("{*}circle")
    found = {dot[0].text[0]: tuple(float(dot.get(name)) for name in ("cx", "cy", "r")) for dot in dots}
    assert found["a"][:2] == (MARGIN, HEIGHT - MARGIN) and found["b"][:2] == (WIDTH - MARGIN, MARGIN)
    assert found["c"][:2] == (WIDTH / 2, HEIGHT / 2) and found["b"][2] > found["a"][2] == found["c"][2]
    assert [dot.get("fill") for dot in dots].count("none") == 2


def test_names_are_text() -> None:
    assert "<b>" not in svg([row("<b>x</b>", 0.2, 25, 4), row("y", 0.6, 29, 80)])


def test_one_point_is_no_plot() -> None:
    assert svg([row("a", 0.2, 25, 4)]) is None and svg([]) is None

"""The matrix: every set against every attacker, the numbers of report.json in their places."""

import io
import re
from typing import Any

import pytest
from rich.console import Console
from test_attackers import html_rows, markdown_rows

from ue_audit.rendering import html, matrix, summary
from ue_audit.rendering.figures import percent, ratio

Attack = tuple[str, str, float, float | None]


def attack(protected: str, name: str, accuracy: float, recovery: float | None, ceiling: float | None = 0.8) -> Any:
    gives = None if recovery is None else {"value": recovery, "low": None, "high": None}
    return {
        "protected": protected, "victim": "supervised", "learner": "supervised", "countermeasure": name, "counts": True,
        "folder": f"{protected}.{name}", "chosen": False, "validation": accuracy, "accuracy": accuracy,
        "recovery": gives, "survival": gives, "ceiling": ceiling, "ceiling_recovery": None, "distortion_cost": None,
        "residual_protection": None, "chance_normalised": None, "undoes": None, "seconds": None, "device": "",
        "settings": {},
    }  # fmt: skip


@pytest.fixture
def two(content: dict[str, Any]) -> dict[str, Any]:
    """Two sets, three attackers; one pair was not tried, and one ran twice."""
    audit = content["audits"][0]
    attacks = [
        attack("data.emn", "jcdp", 0.7, 0.66),
        attack("data.emn", "jpeg", 0.75, 0.9),
        attack("data.tap", "jcdp", 0.60, 0.3, ceiling=0.79),
        attack("data.tap", "jcdp", 0.72, 0.7, ceiling=0.79),
        attack("data.tap", "grayscale", 0.2, -0.4),
    ]
    return content | {"audits": [audit, audit | {"protected": "data.tap"}], "countermeasures": attacks}


def test_numbers_stand_where_they_belong(two: dict[str, Any]) -> None:
    for found in (markdown_rows(two, "Every set against every attacker"), html_rows(two, "matrix")):
        assert found[0] == ["Protected set", "none", "jpeg", "jcdp", "grayscale"]  # by the most they give back
        assert [row[0] for row in found[1:]] == ["data.emn", "data.tap", "clean images (ceiling)"]
        assert found[1][2:] == ["75.0 (0.90)", "70.0 (0.66)", "not measured"]
        assert found[2][2:] == ["not measured", "72.0 (0.70)", "20.0 (−0.40)"]
        assert found[3][2:] == ["80.0", "79.0 to 80.0", "80.0"]
        alone = next(c for c in two["cells"] if c["role"] == "protected")
        assert found[1][1] == percent(alone["accuracy"]["value"])


def test_shades_follow_the_recovery(two: dict[str, Any]) -> None:
    shades = matrix.heat(two)
    assert shades == {(0, 2): 8, (0, 3): 6, (1, 3): 6, (1, 4): 0}
    assert html.render(two).count('class="short heat" style="--heat:') == len(shades)


@pytest.mark.parametrize("keep", ["sets", "countermeasures"])
def test_one_set_or_one_attacker_needs_no_matrix(two: dict[str, Any], keep: str) -> None:
    less = two | (
        {"audits": two["audits"][:1]} if keep == "countermeasures" else {"countermeasures": two["countermeasures"][:1]}
    )
    assert matrix.matrix(less).rows == []
    assert 'id="h-matrix"' not in html.render(less)


def test_an_undefined_recovery_is_left_out(two: dict[str, Any]) -> None:
    two["countermeasures"][0] = attack("data.emn", "jcdp", 0.7, None)
    assert "70.0" in matrix.matrix(two).rows[0] and (0, 3) not in matrix.heat(two)
    assert ratio(None) not in matrix.matrix(two).rows[0][3]


def test_trainings_are_told_apart_by_their_sets(two: dict[str, Any]) -> None:
    named = [row[0] for row in markdown_rows(two, "Accuracy by training set")[1:]]
    assert "data.emn" in named and "clean + noise as in data.emn" in named and len(set(named)) == len(named)


def test_clean_images_under_several_victims_have_several_accuracies(two: dict[str, Any]) -> None:
    clean = next(cell for cell in two["cells"] if cell["role"] == "clean")
    other = clean | {"learner": "simclr", "accuracy": clean["accuracy"] | {"value": 0.5}}
    hardened = clean | {"learner": "adversarial", "accuracy": clean["accuracy"] | {"value": 0.1}}
    audits = [*two["audits"], two["audits"][0] | {"learner": "simclr"}]
    shown = matrix.matrix(two | {"audits": audits, "cells": [*two["cells"], other, hardened]}).rows[-1]
    assert shown[:2] == ("clean images (ceiling)", f"50.0 to {percent(clean['accuracy']['value'])}")


def test_a_terminal_shows_of_many_sets_the_matrix_and_no_row_for_each_training_set(two: dict[str, Any]) -> None:
    """Attackers down and sets across; every name and number in full at 80 columns."""

    def shown(found: dict[str, Any]) -> str:
        out = io.StringIO()
        Console(file=out, width=80).print(summary.report_panel(found))
        return out.getvalue()

    third = two["audits"][0] | {"protected": "data.emn_class"}
    few, many = shown(two), shown(two | {"audits": [*two["audits"], third]})
    assert "Trained on" in few and "Trained on" not in many and "clean images (ceiling)" not in few
    lines = [re.split(r"  +", line.strip("│ ")) for line in many.splitlines()]
    assert ["jpeg", "75.0 (0.90)", "not measured", "not measured", "80.0"] in lines
    assert ["jcdp", "70.0 (0.66)", "72.0 (0.70)", "not measured", "79.0 to 80.0"] in lines
    assert "…" not in many

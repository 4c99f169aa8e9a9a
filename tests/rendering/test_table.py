"""What a row is called: by what was done to the images, and by its set's name where there are several."""

from typing import Any

import pytest

from ue_audit.rendering.table import label

NOISE = "data.emn (noise of the same norm)"


def cell(role: str, folder: str, countermeasure: str | None = None, kind: str = "victim") -> dict[str, Any]:
    return {"role": role, "folder": folder, "countermeasure": countermeasure, "learner_kind": kind}


@pytest.mark.parametrize(
    ("row", "alone", "beside"),
    [
        (cell("clean", "train"), "clean images", "clean images"),
        (cell("noise", NOISE), "clean + noise of the same norm", "clean + noise as in data.emn"),
        (cell("protected", "data.emn"), "protected, no countermeasure", "data.emn"),
        (cell("protected", "data.emn", kind="countermeasure"), "protected", "data.emn"),
        (cell("purified", "data.emn.jcdp", "jcdp"), "protected + jcdp", "data.emn.jcdp"),
        (cell("ceiling", "data.jcdp", "jcdp"), "clean + jcdp (ceiling)", "clean + jcdp (ceiling)"),
        (cell("clean", "train", kind="reference"), *["the attacker's own images alone"] * 2),
        # cells that nobody measured are named after their protected set
        (cell("noise", "data.emn"), "clean + noise of the same norm", "clean + noise as in data.emn"),
        (cell("purified", "data.emn"), "protected + countermeasure", "data.emn + countermeasure"),
    ],
)
def test_what_a_row_is_called(row: dict[str, Any], alone: str, beside: str) -> None:
    assert label({"audits": [{"protected": "data.emn"}]}, row) == alone
    assert label({"audits": [{"protected": "data.emn"}, {"protected": "data.uc"}]}, row) == beside

"""How far an audit is, judged by what lies at the places of its steps. Reads manifests only."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ue_audit import manifest
from ue_audit.errors import IntegrityError
from ue_audit.spelling import recorded

if TYPE_CHECKING:
    from ue_audit.chain import Step


def made(step: "Step") -> manifest.RunDetails | None:
    """How the sealed output at the step's place was made; None if there is none."""
    try:
        found = manifest.find(step.settings.place())
    except IntegrityError:
        return None
    return found.run if found is not None else None


def states(todo: Sequence["Step"]) -> list[str]:
    """The state of each step of an audit; a report has only begun while a step before it has more to do."""
    found = [state(step) for step in todo]
    if todo[-1].stage == "report" and found[-1] == "complete" and set(found) != {"complete"}:
        found[-1] = "begun"
    return found


def state(step: "Step") -> str:
    """"complete", "begun" or "to do", judged by what lies at the step's place. An evaluation has only begun while some
    of its trainings were left out, or of other sets, learners or seeds than are asked for now."""
    try:
        found = manifest.find(step.settings.place())
    except IntegrityError:
        return "begun"
    if found is None:
        return "to do"
    now = recorded(step.settings)
    whole = step.stage != "evaluate" or (not found.notes.get("left_out") and _asked(found.settings) == _asked(now))
    return "complete" if whole else "begun"


def _asked(settings: dict[str, Any]) -> dict[str, Any]:
    """What of an evaluation's settings its number of trainings depends on; folders by their names."""
    folders = sorted(Path(folder).name for folder in settings.get("folders", ()))
    counting = ("learners", "seeds", "max_seeds", "cross", "noise_control")
    return {"folders": folders, **{key: settings.get(key) for key in counting}}

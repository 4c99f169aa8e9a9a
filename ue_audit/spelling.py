"""Settings as words: the line that asks for them, and what a manifest keeps of them."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ue_audit.config import Config, show_fraction, show_yaml
from ue_audit.settings import (
    AdoptSettings,
    EvaluateSettings,
    ImportPriorSettings,
    MergeSettings,
    ProtectSettings,
    PurifySettings,
    ReportSettings,
    TrainPriorSettings,
)
from ue_audit.systems import spelled
from ue_audit.tool_settings import BenchSettings, DetectSettings, ExportSettings, SplitSettings

POSITIONAL = ("source", "raw", "folders", "evaluation")
SPELLED = {
    "output": "-o", "learners": "--learner", "start": "--from", "form": "--from",
    "raw_share": "--raw", "test_share": "--test", "val_share": "--val",
}  # fmt: skip
PASSING = {"fresh", "cache", "reuse", "budget"}  # how a run was asked for, not what was made
UNASKED = {"max_seeds": None}  # what is recorded only where it is something else


def recorded(settings: Config) -> dict[str, Any]:
    """The settings as a manifest keeps them: all that says what was made."""
    found = settings.model_dump(mode="json", exclude=PASSING)
    return {key: value for key, value in found.items() if key not in UNASKED or value != UNASKED[key]}


def command(verb: str, settings: Config) -> str:
    """The line that asks for these settings, ready to paste; what equals its default is left out.

    A file and --set become one list of --set, so that the line stands on its own.
    """
    words, places = ["ue-audit", verb], list[Path]()
    for field, info in type(settings).model_fields.items():
        value = getattr(settings, field)
        if field in POSITIONAL:
            places += value if isinstance(value, tuple) else [value]
        elif value != info.get_default(call_default_factory=True) and not _implied(field, settings):
            words += list(_words(field, value))
    return pasted(*words, *places)


def pasted(*words: object, size: int | None = None) -> str:
    """Words as a line to paste, quoted where they must be; `size`: the working size that the next stage needs, too."""
    return shlex.join(map(spelled, [*words, *(["--size", size] if size else [])]))


def _implied(field: str, settings: Any) -> bool:
    return field == "output" and settings.model_copy(update={"output": None}).place() == settings.output


def _words(field: str, value: Any) -> Iterator[str]:
    if field == "layers":
        for key, part in (item for fields in value.values() for item in fields.items()):
            yield from ("--set", f"{key}={show_yaml(part)}")
    elif isinstance(value, bool):
        yield f"--{field if value else 'no-' + field}".replace("_", "-")
    else:
        for part in value if isinstance(value, tuple) else [value]:
            word = show_fraction(part) if field == "eps" else spelled(part)
            yield from (SPELLED.get(field, f"--{field.replace('_', '-')}"), word)


MODELS: dict[str, type[Config]] = {
    "protect": ProtectSettings,
    "import": AdoptSettings,
    "train-prior": TrainPriorSettings,
    "import-prior": ImportPriorSettings,
    "purify": PurifySettings,
    "merge": MergeSettings,
    "evaluate": EvaluateSettings,
    "report": ReportSettings,
    "detect": DetectSettings,
    "split": SplitSettings,
    "export": ExportSettings,
    "bench": BenchSettings,
}


def made_by(stage: str, fields: dict[str, Any]) -> str:
    """The line that made an output, from its manifest's stage and settings.

    `import` makes outputs of `protect`, and `import-prior` of `train-prior`.
    """
    imported = (stage == "protect" and "clean" in fields) or (stage == "train-prior" and "raw" not in fields)
    verb = {"protect": "import", "train-prior": "import-prior"}[stage] if imported else stage
    return command(verb, MODELS[verb](**fields))

"""The priors of an audit: which purifiers need one, where each is or will be, and the trainings of those not there.

No learner works with a prior.
"""

from pathlib import Path
from typing import Any

from ue_audit import methods
from ue_audit.audit import AuditSettings
from ue_audit.errors import UsageError
from ue_audit.settings import TrainPriorSettings, base_name


def gather(
    audit: AuditSettings, folder: Path, shared: dict[str, Any]
) -> tuple[dict[str, Path], list[TrainPriorSettings]]:
    """The prior of each purifier that needs one, by its label, and the trainings, each after the one it starts from.

    Raises UsageError where a prior is needed and nothing says where it comes from, naming who needs it.
    """
    training: dict[Path, TrainPriorSettings] = {}
    needing = [choice for choice in audit.purifiers if "prior" in methods.needs("purifier", choice.method)]

    def place(name: str, above: tuple[str, ...] = ()) -> Path:
        choice = audit.priors[name] if name else audit.prior
        if choice.file is not None:
            return choice.file
        if name in above:
            raise UsageError(f"the prior {name!r} starts from itself: {' from '.join([*above, name])}")
        raw, spelled = choice.raw or audit.source.raw, f"priors.{name}" if name else "prior"
        if raw is None:
            asking = [other.label for other in needing if other.prior == (*above, name)[0]]
            who = f"{' and '.join(asking)} need{'s' * (len(asking) == 1)} a prior"
            raise UsageError(
                f"{who}, and the audit names neither raw images nor a prior{f' for {name!r}' if name else ''}",
                hint=f"add `source: {{raw: FOLDER}}`, or --set source.raw=FOLDER, or --set {spelled}.file=FILE",
            )
        start = place(choice.start, (*above, name)) if choice.start in audit.priors else choice.start or None
        output = folder / f"{base_name(raw)}.{f'{name}.' if name else ''}prior.ckpt"
        own: dict[str, Any] = {"preset": choice.preset, "layers": {"file": choice.set}, "start": start}
        training[output] = TrainPriorSettings(raw=raw, output=output, **own, **shared)
        return output

    places = {choice.label: place(choice.prior) for choice in needing}
    return places, list(training.values())

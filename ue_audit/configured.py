"""What a stage would run with, for --show-config: its settings and its methods', with the origin of each value."""

from ue_audit import chain, methods
from ue_audit.config import Config, load_preset, resolve
from ue_audit.settings import AdoptSettings, EvaluateSettings, ImportPriorSettings, TrainPriorSettings


def resolved(step: chain.Step) -> list[tuple[str, Config, dict[str, str]]]:
    """The stage's settings and its method's configuration, with the origin of each value. Loads the method."""
    given = dict.fromkeys(step.settings.model_fields_set, "flag")
    layers = getattr(step.settings, "layers", {})
    found: list[tuple[str, Config, dict[str, str]]] = [("settings", step.settings, given)]
    if isinstance(step.settings, TrainPriorSettings):
        from ue_audit.diffusion.prior import PriorConfig  # loads torch

        preset = {"preset": load_preset(step.stage, step.settings.preset)}
        return [*found, ("prior", *resolve(PriorConfig, {**preset, **layers}, step.stage))]
    if isinstance(step.settings, ImportPriorSettings):
        from ue_audit.diffusion.foreign import Asked

        return [*found, ("prior", *resolve(Asked, layers, step.stage))]
    if isinstance(step.settings, AdoptSettings):
        from ue_audit.adopt import Allowed

        return [*found, ("budget", *resolve(Allowed, layers, step.stage))]
    if isinstance(step.settings, EvaluateSettings):
        from ue_audit import lineup

        learners = lineup.gather(step.settings.learners, layers)
        return [*found, *((f"learner {own.label}", own.chosen.config, own.chosen.origins) for own in learners)]
    for kind in (kind for kind, stage in methods.STAGE.items() if stage == step.stage):
        chosen = methods.configure(kind, getattr(step.settings, "method", ""), layers)
        found.append((f"{kind} {chosen.name}", chosen.config, chosen.origins))
    return found

"""What the manifest of a purified folder says of its attacker: needs and knowledge. Older ones say less."""

from collections.abc import Mapping

from ue_audit import methods
from ue_audit.errors import UsageError
from ue_audit.statement import Manifest


def needs(made: Manifest) -> tuple[str, ...]:
    """What the purifier that made a folder needed; of an older manifest, what the method needs today."""
    noted = made.notes.get("attacker")
    if isinstance(noted, Mapping):
        return tuple(noted["needs"])
    try:
        return tuple(methods.load("purifier", made.method).NEEDS)
    except UsageError:
        return ("prior",) if made.dependency("prior") is not None else ()


def knows(made: Manifest) -> str:
    """What the attacker that made a folder knew of the protection; older manifests tell a budget that was followed."""
    noted = made.notes.get("attacker")
    if isinstance(noted, Mapping):
        return str(noted["knows"])
    told = (made.notes.get("eps"), *(part.get("eps") for part in made.notes.values() if isinstance(part, Mapping)))
    return "budget" if any(isinstance(eps, Mapping) and not eps["assumed"] for eps in told) else "nothing"

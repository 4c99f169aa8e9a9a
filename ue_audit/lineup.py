"""Who trains in an evaluation: the learners asked for, each under the name it was asked by, and which sets it takes.

A *victim* takes the images as they come, and trains on every set. A *countermeasure* hardens a victim (its
`counters`): it trains on the clean and the protected images, on purified ones too with `cross`, and is an attack like a
purifier. A *reference* trains without the published images and tells what an attacker has without them: once, on
whatever set.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from ue_audit import methods
from ue_audit.cells import Cell
from ue_audit.errors import UsageError
from ue_audit.settings import Layers

Kind = str
SETS = {
    "victim": ("clean", "noise", "protected", "purified", "ceiling"),
    "countermeasure": ("clean", "protected"),
    "reference": ("clean",),
}
CROSSED = ("clean", "protected", "purified", "ceiling")  # what a countermeasure trains on with `cross`


class Learner(NamedTuple):
    """A learner of an evaluation; `label` is what its records and the report call it."""

    label: str
    chosen: methods.Chosen

    @property
    def counters(self) -> str | None:
        """The method of the victim that this one hardens."""
        return methods.counters(self.chosen)

    @property
    def kind(self) -> Kind:
        if getattr(self.chosen.module, "REFERENCE", False):
            return "reference"
        return "victim" if self.counters is None else "countermeasure"

    def takes(self, cell: Cell, cross: bool) -> bool:
        """Whether it trains on this set."""
        return cell.role in (CROSSED if cross and self.kind == "countermeasure" else SETS[self.kind])

    @property
    def name(self) -> dict[str, Any]:
        """What a record says of it."""
        return {
            "learner": self.label,
            "learner_method": self.chosen.name,
            "learner_kind": self.kind,
            "counters": self.counters,
            "needs": list(self.needs),
            "knows": methods.knows(self.chosen),
        }

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs, as it is set: a probe may be fitted on the attacker's own images."""
        own = ("own",) if getattr(self.chosen.config, "probe_on", None) == "own" else ()
        return tuple(dict.fromkeys((*self.chosen.module.NEEDS, *own)))

    @property
    def recipe(self) -> dict[str, Any]:
        found: dict[str, Any] = self.chosen.config.model_dump(mode="json")
        return found


def gather(names: tuple[str, ...], layers: Layers) -> list[Learner]:
    """The learners called `names`, victims first asked first. `--set KEY=VALUE` is for all of them, `--set
    LEARNER.KEY=VALUE` for one. Raises UsageError for a name that is asked twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"the learner {twice[0]!r} was asked for twice", hint="a preset of your own gives it a name")
    return [Learner(name, methods.configure("learner", name, _layers_of(name, names, layers))) for name in names]


def _layers_of(name: str, names: tuple[str, ...], layers: Mapping[str, Mapping[str, Any]]) -> Layers:
    """The settings for all learners, and on top those for this one, by dotted keys or by a table of its name."""
    found: Layers = {}
    for origin, fields in layers.items():
        shared: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in fields.items():
            head = next((n for n in names if key == n or key.startswith(f"{n}.")), None)
            if head is None:
                shared[key] = value
            elif head == name:
                own.update({key.removeprefix(f"{name}."): value} if key != name else value)
        found[origin] = shared | own
    return found


def tag(*names: str) -> str:
    """Six hex digits that tell names apart."""
    return hashlib.sha256("\x1f".join(names).encode()).hexdigest()[:6]

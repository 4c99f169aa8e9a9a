"""What an attacker of an evaluation laid out: images, weights, knowledge and time, read from manifests and records.

None is what nobody recorded; 0, or an empty list, is what the attacker does without.
"""

from collections.abc import Mapping
from typing import Any

from ue_audit import attacker, facts, methods
from ue_audit.contests import Contest, Group
from ue_audit.facts import Facts

UNTRAINED = ("none", "prior-features")  # guides of JCDP that need no weights beside the prior


def of(known: Facts, contest: Contest, treated: Group) -> dict[str, Any]:
    """The outlay of one countermeasure of `contest`, as report.json has it (see `report`, key `prices`)."""
    return {
        **_images(known, treated),
        "weights": _weights(known, treated),
        "knows": _knows(known, treated),
        "seconds": _seconds(known, contest, treated),
        "device": _devices(known, treated),
    }


def _devices(known: Facts, treated: Group) -> str:
    """Where the prior, the purification and the training ran, each device once."""
    prior = known.priors.get(treated.folder)
    found = [prior.run.device if prior else "", known.device(treated.folder) if treated.role == "purified" else ""]
    return " and ".join(dict.fromkeys(name for name in [*found, known.evaluation.run.device] if name))


def _images(known: Facts, treated: Group) -> dict[str, Any]:
    prior = known.priors.get(treated.folder)
    raw: int | None = 0
    if _takes(known, treated, "prior") is None:
        raw = None
    elif _takes(known, treated, "prior"):
        raw = prior.counts.get("images") if prior else None
    own = treated.records[0].get("notes", {}).get("own_images") if treated.takes_own else 0
    start = _start(known, treated)
    return {
        "prior": prior.subject if prior else None,
        "raw_images": raw,
        "start": start,
        "own_images": own,
        "overlap": _overlap(known, treated, raw, own, start),
    }


def _takes(known: Facts, treated: Group, need: str) -> bool | None:
    """Whether its purifier needs something; None where the manifest of its folder is not at hand."""
    if treated.role != "purified":
        return False
    made = known.made.get(treated.folder)
    return None if made is None else need in attacker.needs(made)


def _start(known: Facts, treated: Group) -> dict[str, Any] | None:
    """What the prior was fine-tuned from; its images and time are not in those of the prior."""
    prior, start = known.priors.get(treated.folder), known.starts.get(treated.folder)
    name = prior.notes.get("start") if prior else None
    if not name:
        return None
    images, seconds = (start.counts.get("images"), start.run.seconds) if start else (None, None)
    return {"name": name, "images": images, "seconds": seconds}


def _overlap(known: Facts, treated: Group, raw: int | None, own: int | None, start: Any) -> str | None:
    """Whether the attacker's images hold some of the owner's: "disjoint", "shared" or "not known"; None without any.

    The evaluation compares the images of one prior, and not those that it was fine-tuned from.
    """
    sets = [name for name, count in (("prior", raw), ("own", own)) if count != 0]
    found: Mapping[str, int] = known.evaluation.notes.get("overlap") or {}
    counts = [
        next((n for pair, n in found.items() if set(pair.split(" ∩ ")) == {"clean", name}), None) for name in sets
    ]
    if not sets:
        return None
    if any(counts):
        return "shared"
    compared = len({prior.sha256 for prior in known.priors.values()}) < 2 and start is None
    return "disjoint" if None not in counts and (compared or "prior" not in sets) else "not known"


def _weights(known: Facts, treated: Group) -> list[str] | None:
    """Pretrained weights by name: those of an encoder, and those that guide JCDP."""
    made = known.made.get(treated.folder) if treated.role == "purified" else None
    if treated.role == "purified" and made is None:
        return None
    guide = facts.guide_of(made) if made else None
    encoder = known.evaluation.settings.get("encoder") if "encoder" in treated.records[0].get("needs", ()) else None
    named = [str(encoder).rpartition("/")[2]] if encoder else []
    return named + ([guide] if guide and guide not in UNTRAINED else [])


def _knows(known: Facts, treated: Group) -> str | None:
    """What of the protection, of methods.KNOWLEDGE."""
    trained = str(treated.records[0].get("knows", methods.KNOWLEDGE[0]))
    if treated.role != "purified":
        return trained
    made = known.made.get(treated.folder)
    return methods.most_known(trained, attacker.knows(made)) if made else None


def _seconds(known: Facts, contest: Contest, treated: Group) -> dict[str, float | None]:
    """By stage, in all, and `extra`: what it takes beside the one training of a victim that anybody needs."""
    takes_prior, prior = _takes(known, treated, "prior"), known.priors.get(treated.folder)
    purifies, hardened = treated.role == "purified", treated.kind == "countermeasure"
    training = known.training_seconds(treated.records)
    parts: dict[str, float | None] = {
        "prior": 0.0 if takes_prior is False else prior.run.seconds if prior else None,
        "purification": known.purifying_seconds(treated.folder) if purifies else 0.0,
        "training": training,
    }
    plain = known.training_seconds(contest.protected.records)
    longer = (max(0.0, training - plain) if training is not None and plain is not None else None) if hardened else 0.0
    extra = [parts["prior"], parts["purification"], longer]
    return {
        **parts,
        "total": known.seconds(treated.folder if purifies else None, treated.records),
        "extra": None if None in extra else sum(part for part in extra if part is not None),
    }

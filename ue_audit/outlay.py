"""What an attacker of an evaluation laid out: images, weights, knowledge and time, read from manifests and records.

None is what nobody recorded; 0, or an empty list, is what the attacker does without.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ue_audit import attacker, facts, methods
from ue_audit.contests import Contest, Group
from ue_audit.facts import Facts
from ue_audit.manifest import Manifest

UNTRAINED = ("none", "prior-features")  # guides of JCDP that need no weights beside the prior


def of(known: Facts, contest: Contest, treated: Group) -> dict[str, Any]:
    """The outlay of one countermeasure of `contest`, as report.json has it (see `report`, key `prices`)."""
    return {
        **_images(known, treated),
        "weights": _weights(known, treated),
        "knows": _knows(known, treated),
        "seconds": _seconds(known, contest, treated),
        "device": devices(known, treated),
    }


def devices(known: Facts, treated: Group) -> str:
    """Where the priors, the purifications and the training ran, each device once."""
    found = [prior.run.device for prior in known.priors_of(treated.folder)]
    found += [known.made[step].run.device for step in _steps(known, treated) or ()]
    return " and ".join(dict.fromkeys(name for name in [*found, known.evaluation.run.device] if name))


def _steps(known: Facts, treated: Group) -> list[str] | None:
    """The purified folders that lead to the training set, the first one first; None where one is not at hand."""
    return known.purifications(treated.folder) if treated.role == "purified" else []


def _images(known: Facts, treated: Group) -> dict[str, Any]:
    priors = known.priors_of(treated.folder)
    raw = _raw_images(known, treated)
    own = treated.records[0].get("notes", {}).get("own_images") if treated.takes_own else 0
    start = _start(known, treated)
    return {
        "prior": " and ".join(prior.subject or "" for prior in priors) or None,
        "raw_images": raw,
        "start": start,
        "own_images": own,
        "overlap": _overlap(known, treated, raw, own, start),
    }


def _raw_images(known: Facts, treated: Group) -> int | None:
    """Of all priors that it takes; priors of the same images take them once."""
    taking = _taking(known, treated, "prior")
    if taking is None or any(step not in known.priors for step in taking):
        return None
    counts = {_raw_digest(prior): prior.counts.get("images") for prior in known.priors_of(treated.folder)}
    amounts = list(counts.values())
    return None if None in amounts else sum(amount for amount in amounts if amount is not None)


def _raw_digest(prior: Manifest) -> str:
    raw = prior.dependency("raw", "source")
    return next(iter(raw.digest.values()), "") if raw is not None else prior.sha256


def _taking(known: Facts, treated: Group, need: str) -> list[str] | None:
    """The purified folders whose purifier needed something; None where a manifest is not at hand."""
    steps = _steps(known, treated)
    return None if steps is None else [step for step in steps if need in attacker.needs(known.made[step])]


def _start(known: Facts, treated: Group) -> dict[str, Any] | None:
    """What the priors were fine-tuned from; its images and time are not in those of the priors."""
    found = {}
    for step in _steps(known, treated) or ():
        prior, start = known.priors.get(step), known.starts.get(step)
        if prior is not None and (name := prior.notes.get("start")):
            found[name] = (start.counts.get("images"), facts.trained_seconds(start)) if start else (None, None)
    if not found:
        return None
    images, seconds = zip(*found.values(), strict=True)
    return {"name": " and ".join(found), "images": _sum(images), "seconds": _sum(seconds)}


def _sum(amounts: Sequence[Any]) -> Any:
    """None where one of them is."""
    return None if None in amounts else sum(amounts)


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
    steps = _steps(known, treated)
    if steps is None:
        return None
    guides = [facts.guide_of(known.made[step]) for step in steps]
    encoder = known.evaluation.settings.get("encoder") if "encoder" in treated.records[0].get("needs", ()) else None
    named = [str(encoder).rpartition("/")[2]] if encoder else []
    return list(dict.fromkeys(named + [guide for guide in guides if guide and guide not in UNTRAINED]))


def _knows(known: Facts, treated: Group) -> str | None:
    """What of the protection, of methods.KNOWLEDGE: the most of what any step knows."""
    trained = str(treated.records[0].get("knows", methods.KNOWLEDGE[0]))
    steps = _steps(known, treated)
    return None if steps is None else methods.most_known(trained, *(attacker.knows(known.made[s]) for s in steps))


def _seconds(known: Facts, contest: Contest, treated: Group) -> dict[str, float | None]:
    """By stage, in all, and `extra`: what it takes beside the one training of a victim that anybody needs."""
    taking, priors = _taking(known, treated, "prior"), known.priors_of(treated.folder)
    purifies, hardened = treated.role == "purified", treated.kind == "countermeasure"
    training = known.training_seconds(treated.records)
    there = taking is not None and all(step in known.priors for step in taking)
    parts: dict[str, float | None] = {
        "prior": _sum([facts.trained_seconds(prior) for prior in priors]) if there else None,
        "purification": known.purifying_seconds(treated.folder) if purifies else 0.0,
        "training": training,
    }
    plain = known.training_seconds(contest.protected.records)
    longer = (max(0.0, training - plain) if training is not None and plain is not None else None) if hardened else 0.0
    return {
        **parts,
        "total": known.seconds(treated.folder if purifies else None, treated.records),
        "extra": _sum([parts["prior"], parts["purification"], longer]),
    }

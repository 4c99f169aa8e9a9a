"""What the findings amount to, in words: the verdict sentence and the limits. No files, no torch.

Never "safe": a protection is broken by something, or survives what was tried.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ue_audit import additions, agenda, findings, methods, scores
from ue_audit.contests import Contest, Group
from ue_audit.rendering.figures import count, interval, points, remaining
from ue_audit.thresholds import BROKEN, HOLDS, MIN_EFFECT


def judge(contest: Contest | None) -> dict[str, Any]:
    """Grade or the reasons for none, survival, effect, and the sentence that says it."""
    if contest is None:
        return {
            "sentence": "Nothing was audited: no protected set was trained on beside its clean originals.",
            "grade": None, "no_grade": ["no protected set beside its clean originals"],
            "survival": None, "effect": None, "chosen": None,
        }  # fmt: skip
    left, taken = contest.survival(), contest.effect
    letter, reasons = scores.grade(left, taken, contest.seeds, contest.noise is not None, bool(contest.attacks))
    return {
        "sentence": sentence(contest),
        "grade": letter,
        "no_grade": list(reasons),
        "survival": findings.estimate(left),
        "effect": findings.estimate(taken),
        "chosen": _chosen(contest),
    }


def sentence(contest: Contest) -> str:
    """The verdict in one or two sentences, naming the protected set, the attack and the interval."""
    name, taken, left = contest.protected.folder, contest.effect, contest.survival()
    if taken.value < MIN_EFFECT:
        better = f"{points(taken.value)} points {interval(taken, points)}".rstrip()
        return f"{name} never protected: clean images train a model that is better by only {better}."
    takes = f"takes {points(taken.value)} points of accuracy"
    if not contest.attacks:
        return f"{name} {takes}; no attacker was tried, so what survives of it is not known."
    if contest.best is None or left is None:
        attacks = _listed(sorted({group.attack for group, _ in contest.attacks}))
        return f"{name} {takes}; with {attacks} it gave an attacker no more than their own images do alone."
    attacker = contest.best[0].attack
    shown = " ".join(filter(None, [remaining(left.value), interval(left, remaining)])) + " of that survives"
    bound = left.value if left.low is None else left.low
    if bound >= HOLDS:
        tried = len(contest.attacks)
        all_tried = f"the {tried} countermeasures" if tried > 1 else f"{attacker}, the one countermeasure"
        return f"{name} {takes}; {shown} {all_tried} tried. This is no guarantee."
    done = "broken" if left.value < 0.2 else "undone for the most part" if left.value < BROKEN else "weakened"
    return f"{name} is {done} by {attacker}. It {takes}; {shown}."


def _chosen(contest: Contest) -> dict[str, Any] | None:
    if contest.best is None:
        return None
    group = contest.best[0]
    return {"countermeasure": group.attack, "folder": group.folder, "learner": group.learner}


# -- limits ------------------------------------------------------------------------------------------------


def limits(contest: Contest | None, groups: Sequence[Group], notes: Mapping[str, Any]) -> list[str]:
    """What was not tested, so that nobody takes survival for safety."""
    tried = {str(g.countermeasure) for g in groups if g.role == "purified"}
    untried = [name for name in methods.names("purifier") if name not in {*tried, *(notes.get("purifiers") or ())}]
    learners = sorted({g.learner for g in groups})
    unlearnt = sorted(set(methods.names("learner")) - {str(g.records[0].get("learner_method")) for g in groups})
    found = [
        "Adaptive attackers: someone who knows the method can build a countermeasure against it. The images are out "
        "and cannot be changed any more; failing to break them today is no proof of safety tomorrow.",
        f"Training: {_listed(learners)} tried"
        + (f"; not tried of those that ue-audit has: {_listed(unlearnt)}, which" if unlearnt else "; others")
        + " may learn what these did not.",
        f"Countermeasures: {_listed(sorted(tried)) or 'none'} tried"
        + (f"; not tried of those that ue-audit has: {_listed(untried)}." if untried else "."),
        _chance(contest),
        "Duplicates: exact ones were searched by pixels at the working size, near ones "
        + (
            "by their coarse shape: what was turned, cut by more than a sixteenth of its sides, or cut from an image "
            "of a prior, can escape. Some that were named may be other pictures of the same shape."
            if notes.get("near")
            else "were not searched."
        ),
    ]
    if notes.get("left_out"):
        found.append(f"Time: {agenda.words(notes['left_out'])}.")
    if notes.get("seeds_added"):
        found.append(f"Seeds: {additions.words(notes['seeds_added'])}.")
    if notes.get("val_from"):
        found.append(
            f"Choosing: the validation images come from {notes['val_from']}. An attacker without clean labelled images "
            "chooses worse."
        )
    if notes.get("guide") and "lpips" not in str(notes["guide"]).lower():
        found.append(f"The perceptual guide of JCDP was {notes['guide']}, not LPIPS as in the paper.")
    if contest is not None:
        images, epochs = (contest.clean.records[0][key] for key in ("images", "epochs"))
        found.append(
            f"Scale: {count(images)} training images and {epochs} epochs. More of either, or larger networks, can "
            "change every number here."
        )
    return found


def _chance(contest: Contest | None) -> str:
    """How often each purifier ran, and what that leaves out."""
    runs = Counter(group.attack for group, _ in contest.attacks) if contest is not None else Counter[str]()
    again = sorted(name for name, count in runs.items() if count > 1)
    often = f"{_listed(again)} ran with several seeds, each an attack of its own" if again else "each ran with one seed"
    return (
        f"Chance in the countermeasure: {often}. The intervals hold the spread of training seeds and of the test "
        "images, not that of purification, nor that of crafting."
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

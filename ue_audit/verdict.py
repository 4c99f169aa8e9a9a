"""What the findings amount to, in words: the verdict sentence, the honesty checks, the limits. No files, no torch.

Never "safe": a protection is broken by something, or survives what was tried.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ue_audit import findings, methods, scores
from ue_audit.contests import Contest, Group
from ue_audit.rendering.figures import count, interval, percent, points, ratio

NOISE_MARGIN = 0.05  # noise of the same norm may cost this much accuracy before it is called damage
Check = dict[str, str]


def judge(contest: Contest | None) -> dict[str, Any]:
    """Grade or the reasons for none, survival, effect, and the sentence that says it."""
    if contest is None:
        return {
            "sentence": "Nothing was audited: no protected set was trained on beside its clean originals.",
            "grade": None, "no_grade": ["no protected set beside its clean originals"],
            "survival": None, "effect": None, "chosen": None,
        }  # fmt: skip
    left, taken = contest.survival(), contest.effect
    letter, reasons = scores.grade(left, taken, contest.seeds, contest.noise is not None)
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
    if taken.value < scores.MIN_EFFECT:
        better = f"{points(taken.value)} points {interval(taken, points)}".rstrip()
        return f"{name} never protected: clean images train a model that is better by only {better}."
    takes = f"The protection takes {points(taken.value)} points of accuracy"
    if contest.best is None or left is None:
        return f"{takes}; no attacker was tried, so what survives of it is not known."
    attacker = contest.best[0].attack
    shown = " ".join(filter(None, [ratio(left.value), interval(left, ratio)])) + " of that survives"
    bound = left.value if left.low is None else left.low
    if bound >= 0.6:
        tried = len(contest.attacks)
        all_tried = f"the {tried} countermeasures" if tried > 1 else f"{attacker}, the one countermeasure"
        return f"{takes}; {shown} {all_tried} tried. This is no guarantee."
    opening = "Broken" if left.value < 0.2 else "Undone for the most part" if left.value < 0.5 else "Weakened"
    return f"{opening} by {attacker}. {takes}; {shown}."


def _chosen(contest: Contest) -> dict[str, Any] | None:
    if contest.best is None:
        return None
    group = contest.best[0]
    return {"countermeasure": group.attack, "folder": group.folder, "learner": group.learner}


# -- honesty checks ----------------------------------------------------------------------------------------


def check(name: str, state: str, text: str) -> Check:
    """state: "ok", "warn", "fail" or "unknown" (not measured)."""
    return {"name": name, "state": state, "text": text}


def checks(contest: Contest | None, groups: Sequence[Group], notes: Mapping[str, Any]) -> list[Check]:
    """What would make the verdict false, each answered; the worst first."""
    found = [_overlap(notes.get("overlap")), _whole(notes), _alike(groups), _lineage(notes)]
    if contest is not None:
        found.append(_budget((notes.get("budgets") or {}).get(contest.protected.folder)))
        found += [_effect(contest), _noise(contest), _seeds(contest), _ceilings(contest)]
        found += [*_stopping(contest), *_own_images(contest)]
    order = ("fail", "warn", "unknown", "ok")
    return sorted(found, key=lambda c: order.index(c["state"]))


def _overlap(found: Mapping[str, int] | None) -> Check:
    name = "Sets are disjoint"
    if not found:
        return check(name, "unknown", "Duplicates between the sets: not measured.")
    shared = [f"{count} in {pair}" for pair, count in found.items() if count]
    sets = list(dict.fromkeys(part for pair in found for part in pair.split(" ∩ ")))
    if shared:
        return check(name, "fail", f"Exact duplicates: {', '.join(shared)}.")
    if "prior" not in sets:
        text = f"No exact duplicates between {', '.join(sets)}; the images of a prior were not compared."
        return check(name, "unknown", text)
    return check(name, "ok", f"No exact duplicates between {', '.join(sets)}.")


def _budget(found: Mapping[str, Any] | None) -> Check:
    name = "Budget kept"
    if found is None:
        return check(name, "unknown", "The largest change against the budget: not measured.")
    largest, limit = f"{found['largest']:g} {found['unit']}", f"{found['limit']:g} ({found['norm']})"
    text = f"The largest change is {largest}, the budget {limit}."
    return check(name, "ok" if found["kept"] else "fail", text)


def _whole(notes: Mapping[str, Any]) -> Check:
    if notes.get("partial"):
        return check("Whole set", "fail", "Only part of the images was taken (--limit): this is a trial, not an audit.")
    return check("Whole set", "ok", "All images of the set were taken.")


def _lineage(notes: Mapping[str, Any]) -> Check:
    replaced = notes.get("replaced")
    if replaced:
        return check("Lineage", "fail", f"Made anew after the evaluation: {', '.join(replaced)}. Evaluate again.")
    return check("Lineage", "ok", "The sets are those that were evaluated.")


def _alike(groups: Sequence[Group]) -> Check:
    """Within a learner every training must have the same recipe and number of images."""
    recipes: dict[str, set[str]] = {}
    for group in groups:
        for record in group.records:
            seen = (sorted(record["recipe"].items()), record["images"], record["n_test"])
            recipes.setdefault(group.learner, set()).add(str(seen))
    unequal = [learner for learner, seen in recipes.items() if len(seen) > 1]
    if unequal:
        text = f"Recipes, images or test images differ between trainings: {', '.join(unequal)}."
        return check("Same recipe", "fail", text)
    return check("Same recipe", "ok", "Every training has the same recipe, number of images and test images.")


def _effect(contest: Contest) -> Check:
    taken = contest.effect
    text = f"Clean minus protected is {points(taken.value)} points {interval(taken, points)}".rstrip()
    if taken.value < scores.MIN_EFFECT:
        return check("It protected", "fail", f"{text}; under 10 there is nothing to audit.")
    return check("It protected", "ok", f"{text}.")


def _noise(contest: Contest) -> Check:
    name = "Noise control"
    if contest.noise is None:
        return check(name, "fail", "Clean images with random noise of the same norm: not measured.")
    lost = contest.clean.arm().mean - contest.noise.arm().mean
    text = f"Random noise of the same norm costs {points(lost)} points"
    if lost > NOISE_MARGIN:
        return check(name, "warn", f"{text}: part of the effect is damage, not protection.")
    return check(name, "ok", f"{text}: the effect is not mere damage.")


def _seeds(contest: Contest) -> Check:
    n = contest.seeds
    state = "ok" if n >= scores.MIN_SEEDS else "fail"
    return check("Seeds", state, f"{n} training seed{'s' * (n != 1)} for each cell of the verdict; a grade needs 3.")


def _ceilings(contest: Contest) -> Check:
    lacking = [treated.attack for treated, ceiling in contest.attacks if ceiling is None]
    if not contest.attacks:
        return check("Ceilings", "unknown", "No countermeasure was measured.")
    if lacking:
        text = f"What the countermeasure does to clean images is not measured for {', '.join(lacking)}."
        return check("Ceilings", "unknown", text)
    return check("Ceilings", "ok", "Every countermeasure was also measured on clean images.")


def _stopping(contest: Contest) -> list[Check]:
    """An attacker may stop early: the protected set's own curve can be an attack."""
    share, left = findings.early_stopping(contest), contest.survival()
    if share is None:
        return []
    text = f"Stopping where validation accuracy is best gives back {ratio(share)} without any countermeasure"
    if left is not None and share > 1 - left.value and share > 0:
        return [check("Early stopping", "warn", f"{text}: more than the countermeasures do.")]
    return [check("Early stopping", "warn" if share >= findings.BROKEN else "ok", f"{text}.")]


def _own_images(contest: Contest) -> list[Check]:
    """A countermeasure that takes clean labelled images must beat what those give without the published ones."""
    name, taking = "The attacker's own images", [group for group, _ in contest.attacks if group.takes_own]
    if not taking:
        return []
    best = max(taking, key=lambda group: group.validation)
    gives = f"{best.attack} reaches {percent(best.arm().mean)} % with clean labelled images of the attacker's own"
    if contest.alone is None:
        return [check(name, "unknown", f"{gives}; what those give alone is not measured (--learner own_only).")]
    text = f"{gives}; those alone give {percent(contest.alone.arm().mean)} %"
    if best.validation > contest.alone.validation:
        return [check(name, "ok", f"{text}.")]
    return [check(name, "warn", f"{text}, so it was not counted as an attack.")]


# -- limits ------------------------------------------------------------------------------------------------


def limits(contest: Contest | None, groups: Sequence[Group], notes: Mapping[str, Any]) -> list[str]:
    """What was not tested, so that nobody takes survival for safety."""
    tried = {str(g.countermeasure) for g in groups if g.role == "purified"}
    untried = [name for name in methods.names("purifier") if name not in tried]
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
        "Duplicates: exact ones were searched, by pixels at the working size; near duplicates were not.",
    ]
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

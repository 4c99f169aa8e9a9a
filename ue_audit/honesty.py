"""Honesty checks: what would make a verdict false, answered before it is believed. No files, no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from ue_audit import findings
from ue_audit.contests import Contest, Group
from ue_audit.rendering.figures import interval, percent, points
from ue_audit.rendering.figures import share as in_percent
from ue_audit.thresholds import BROKEN, MIN_EFFECT, MIN_SEEDS, NEAR_FAILS, NEAR_WARNS, NOISE_MARGIN

Check = dict[str, str]


def check(name: str, state: str, text: str) -> Check:
    """state: "ok", "warn", "fail" or "unknown" (not measured)."""
    return {"name": name, "state": state, "text": text}


def checks(contest: Contest | None, groups: Sequence[Group], notes: Mapping[str, Any]) -> list[Check]:
    """What would make the verdict false, each answered; the worst first."""
    found = [_overlap(notes), _near(notes), _whole(notes), _alike(groups), _lineage(notes)]
    if contest is not None:
        found.append(_budget((notes.get("budgets") or {}).get(contest.protected.folder)))
        found += [_effect(contest), _noise(contest), _seeds(contest, notes), _ceilings(contest)]
        found += [*_stopping(contest), *_own_images(contest)]
    order = ("fail", "warn", "unknown", "ok")
    return sorted(found, key=lambda c: order.index(c["state"]))


def _overlap(notes: Mapping[str, Any]) -> Check:
    name, found = "Sets are disjoint", notes.get("overlap")
    if not found:
        return check(name, "unknown", "Duplicates between the sets: not measured.")
    shared = [f"{count} in {pair}" for pair, count in found.items() if count]
    sets = _sets(found)
    unknown = _unknown(notes, "overlap", sets)
    rest = f"; what {unknown} was trained on is not known" if unknown else ""
    if shared:
        return check(name, "fail", f"Exact duplicates: {', '.join(shared)}{rest}.")
    none = f"No exact duplicates between {', '.join(sets)}"
    if "prior" in sets or unknown:
        return check(name, "unknown" if unknown else "ok", f"{none}{rest}.")
    return check(name, "unknown", f"{none}; there was no prior to compare.")


def _unknown(notes: Mapping[str, Any], kind: str, sets: Sequence[str]) -> str:
    """The priors, if any, that have images which could not be compared, or whose start has."""
    names = (notes.get("not_compared") or {}).get(kind)
    if names:
        return " and ".join(f"the prior {name}" for name in names)
    prior = notes.get("prior") or {}
    return "the prior" if prior.get("training_data") == "unknown" or (prior and "prior" not in sets) else ""


def _near(notes: Mapping[str, Any]) -> Check:
    """Copies that were resized, compressed, cut or mirrored: an attacker who has them has the originals."""
    name, found = "Near duplicates", notes.get("near")
    if not found:
        return check(name, "unknown", "Resized, compressed, cut or mirrored copies between the sets: not measured.")
    shares = {pair: one["count"] / max(1, one["of"]) for pair, one in found.items()}
    most, sets = max(shares.values()), _sets(found)
    missing = _unknown(notes, "near", sets)
    rest = f"; not all images of {missing} could be compared" if missing else ""
    if not most:
        text = f"No resized, compressed, cut or mirrored copies between {', '.join(sets)}{rest}."
        return check(name, "unknown" if missing else "ok", text)
    state = "fail" if most >= NEAR_FAILS else "warn" if most >= NEAR_WARNS else "unknown" if missing else "ok"
    named = [
        f"{one['count']} of {one['of']} between {pair.replace(' ∩ ', ' and ')} "
        f"({percent(shares[pair], (NEAR_WARNS, NEAR_FAILS))} %{'' if state == 'ok' else _such_as(one['examples'])})"
        for pair, one in sorted(found.items(), key=lambda item: -shares[item[0]])
        if one["count"]
    ]
    amount = "Few copies" if state == "ok" else "Copies"
    return check(name, state, f"{amount}, resized, compressed, cut or mirrored: {'; '.join(named)}{rest}.")


def _such_as(examples: Sequence[Sequence[str | None]]) -> str:
    names = [name for name in examples[0] if name] if examples else []
    return f", such as {' and '.join(names)}" if names else ""


def _sets(pairs: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(part for pair in pairs for part in pair.split(" ∩ ")))


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
    return check("Whole set", "ok", "All images of the set were used.")


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
    text = f"Unattacked, clean minus protected is {points(taken.value)} points {interval(taken, points)}".rstrip()
    if taken.value < MIN_EFFECT:
        return check("Effect", "fail", f"{text}; under 10 there is nothing to audit.")
    return check("Effect", "ok", f"{text}.")


def _noise(contest: Contest) -> Check:
    name = "Noise control"
    if contest.noise is None:
        return check(name, "fail", "Clean images with random noise of the same norm: not measured.")
    lost = contest.clean.arm().mean - contest.noise.arm().mean
    text = f"Random noise of the same norm costs {points(lost)} points"
    if lost > NOISE_MARGIN:
        return check(name, "warn", f"{text}: part of the effect is damage, not protection.")
    return check(name, "ok", f"{text}: the effect is not mere damage.")


def _seeds(contest: Contest, notes: Mapping[str, Any]) -> Check:
    n, name = contest.seeds, {"protected": contest.protected.folder, "learner": contest.protected.learner}
    state = "ok" if n >= MIN_SEEDS else "fail"
    text = f"{n} training seed{'s' * (n != 1)} for each cell of the verdict; a grade needs 3."
    sets = (notes.get("seeds_added") or {}).get("sets", ())
    added = next((row for row in sets if {key: row[key] for key in name} == name), None)
    return check("Seeds", state, f"{text} Seeds added: {added['sentence']}." if added else text)


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
    text = f"Stopping where validation accuracy is best gives back {in_percent(share)} without any countermeasure"
    if left is not None and share > 1 - left.value and share > 0:
        return [check("Early stopping", "warn", f"{text}: more than the countermeasures do.")]
    if share >= BROKEN:
        return [check("Early stopping", "warn", f"{text}.")]
    less = ": less than the countermeasures do" if left is not None else ""
    return [check("Early stopping", "ok", f"{text}{less}.")]


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

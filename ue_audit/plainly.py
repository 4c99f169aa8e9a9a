"""The verdict once more, for a reader who knows nothing of the field: what happens, to what end, what it means, and the
words of the report. What is done in an attack its method says (`IN_WORDS`); none is loaded."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ue_audit import methods, verdict
from ue_audit.contests import Contest, Group
from ue_audit.facts import Facts
from ue_audit.rendering.figures import count, duration, interval, percent, points, share
from ue_audit.thresholds import BROKEN, MIN_EFFECT

Attacker = Mapping[str, Any]

FREE = "nothing but the published images"
MEANING = {
    "F": "Do not rely on this protection: it does not keep anybody from training on these images.",
    "D": "Do not rely on this protection: it spoils training a little, and does not keep anybody from it.",
    "C": "This protection costs an attacker a part of what the images are worth, and does not keep anybody out.",
    "B": "Nothing that was tried undoes this protection. That is no guarantee: attacks get better, and what is "
    "published cannot be called back.",
}
MEANING["A"] = MEANING["B"]
UNSURE = "Do not rely on this protection: the figures are too uncertain to say that it keeps anybody from training on "
UNSURE += "these images."

WORDS = (
    ("accuracy", "the share of test pictures that a trained network names rightly; no training has seen them"),
    ("points", "percentage points: from 80 % to 30 % are 50 points"),
    ("effect", "the points of accuracy that the protection takes where nobody attacks it"),
    ("countermeasure, attack", "what somebody does to learn from protected images all the same"),
    ("grade", "goes by the lower end of survival: A from 0.80, B from 0.60, C from 0.40, D from 0.20, else F"),
    ("recovery", "the share of the effect that an attack gives back: 1 is all of it, 0 nothing, more than 1 chance"),
    ("recovery to ceiling", "the share of what could be given back, since an attack harms the images, too"),
    ("survival", "the share of the effect that is left after the attack: 1 minus the recovery"),
    ("[0.03, 0.23]", "the range in which the true figure lies, as far as chance goes: in 95 audits of 100"),
    ("epoch", "one pass of a training over all images"),
    ("seed", "a training repeated with other random numbers; figures are means over the seeds"),
    ("ceiling", "the same attack on clean images: better than that it cannot do"),
    ("noise control", "clean images with random noise as strong as the protection's, to see that it is no mere damage"),
    ("raw images", "unprotected pictures of the same kind that the attacker found elsewhere, in whatever format"),
    ("prior", "an image generator that the attacker trained on raw images"),
    ("frontier", "attacks for which no other is cheaper and as good"),
    ("chosen", "the attack that does best on the validation images: an attacker could not choose by the test images"),
    ("validation, test images", "clean pictures set apart, those to choose by, these to measure with"),
    ("victim, learner", "a way to train a network; a victim takes the images as they come"),
    ("budget, levels", "the most that the protection may change a pixel: colours have 256 levels"),
    ("PSNR, SSIM, LPIPS", "how like two images are; the first two are higher, the third is lower, the more they are"),
)


def sentences(
    known: Facts, head: Contest | None, found: Sequence[Contest], attackers: Sequence[Attacker], grade: str | None
) -> list[str]:
    """What the verdict says, in words of every day. `attackers` are the rows of the price list of `head`."""
    if head is None:
        return []
    return [*_happens(known, head, attackers), *_means(head, grade), *_others(found)]


def caution(checks: Sequence[Mapping[str, str]]) -> list[str]:
    """What of the honesty checks a reader must know first."""
    failing = [check["name"] for check in checks if check["state"] == "fail"]
    if not failing:
        return []
    return [f"Read all of this with care: what stands below under {', '.join(failing)} can make it wrong."]


def words(known: Facts, found: Sequence[Contest]) -> list[dict[str, str]]:
    """The words of the report, and every attack that was tried, in a phrase each."""
    attacks = {g.attack: does(known, g) for contest in found for g, _ in contest.attacks}
    phrases = [(name, f"somebody {phrase}") for name, phrase in sorted(attacks.items())]
    return [{"word": word, "means": means} for word, means in (*WORDS, *phrases)]


def does(known: Facts, treated: Group) -> str:
    """What an attacker does, in a phrase: "turns the images grey"."""
    steps = (known.purifications(treated.folder) if treated.role == "purified" else []) or []
    found = [phrase for step in steps for phrase in methods.in_words("purifier", known.made[step].method)]
    if treated.role == "purified" and not found:
        found = [f"treats the images with {treated.countermeasure}"]
    if treated.kind == "countermeasure":
        found += methods.in_words("learner", str(treated.records[0].get("learner_method", treated.learner)))
    return ", then ".join(found)


def _happens(known: Facts, contest: Contest, attackers: Sequence[Attacker]) -> Iterator[str]:
    """Accuracies without and with the protection, and after the attack that was chosen."""
    name, guessing = contest.protected.folder, 1 / len(known.classes)
    yield (
        f"A network that learns from the clean images names {percent(contest.clean.arm().mean)} % of new pictures "
        f"rightly, one that learns from the protected images ({name}) {percent(contest.protected.arm().mean)} %. "
        f"Guessing gives {percent(guessing)} %."
    )
    chosen = next((a for a in attackers if a["chosen"]), None)
    if contest.effect.value < MIN_EFFECT or contest.best is None or chosen is None:
        return
    treated, back = contest.best[0], chosen["recovery"]
    taken = f"the {points(contest.effect.value)} points that the protection takes"
    range_ = interval(back, lambda value: share(value).removesuffix(" %"))
    yield (
        f"An attacker who {does(known, treated)} ({treated.attack}) gets {percent(treated.arm().mean)} % right: "
        f"{share(back['value'])} {range_} of {taken} are undone. ".replace("  ", " ")
        + f"That takes {_price(chosen)}."
    )


def _price(attacker: Attacker) -> str:
    """What an attacker needs, and how long, in words."""
    found = []
    if attacker["raw_images"] != 0:
        found.append(f"{_amount(attacker['raw_images'])} unprotected pictures of the same kind")
    if attacker["own_images"] != 0:
        found.append(f"{_amount(attacker['own_images'])} clean pictures with their labels")
    if attacker["weights"] is None or attacker["weights"] or attacker["start"]:
        found.append("a network that others have trained")
    seconds = attacker["seconds"]["extra"]
    time = "an unknown time" if seconds is None else "under a second" if seconds < 1 else duration(seconds)
    return f"{', '.join(found) or FREE}, and {time} beside the training"


def _amount(n: int | None) -> str:
    return "an unknown number of" if n is None else count(n)


def _means(contest: Contest, grade: str | None) -> Iterator[str]:
    """What an owner should make of it."""
    if contest.effect.value < MIN_EFFECT:
        yield "The protection keeps hardly anything from a network: there is nothing to rely on, and nothing to undo."
    elif not contest.attacks:
        yield "Nobody tried to undo it here: what it is worth against an attacker is not known."
    elif contest.best is None:
        yield "What was tried gave an attacker no more than pictures of their own would."
    elif grade is not None:
        left = contest.survival()
        yield UNSURE if grade in "DF" and left is not None and left.value >= BROKEN else MEANING[grade]
    else:
        yield from _without_grade(contest)


def _without_grade(contest: Contest) -> Iterator[str]:
    left = contest.survival()
    if left is not None and left.value < BROKEN:
        yield "There is no grade (why stands beside it), but already this shows that the protection can be undone."
    else:
        yield "There is no grade (why stands beside it): this audit is too little to rely on."


def _others(found: Sequence[Contest]) -> Iterator[str]:
    """Where there are several sets, what an attacker gets right on each."""
    if len({contest.protected.folder for contest in found}) < 2:
        return
    several = len({contest.protected.learner for contest in found}) > 1
    ends = [
        f"{c.protected.folder}{f', {c.protected.learner}' if several else ''} {percent(c.best[0].arm().mean)} % "
        f"({c.best[0].attack}, {_graded(c)})"
        for c in found
        if c.best is not None and c.effect.value >= MIN_EFFECT
    ]
    if len(ends) > 1:
        yield f"The verdict is that of the set that is undone most. An attacker gets right, on each: {', '.join(ends)}."


def _graded(contest: Contest) -> str:
    letter = verdict.judge(contest)["grade"]
    return f"grade {letter}" if letter else "no grade"

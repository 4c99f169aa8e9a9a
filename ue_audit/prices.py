"""The price list: what each attacker of a protected set needs, what it gives back, and who is worth the price.

Pure: attackers are rows of report.json (see `report`, key `prices`), in any order. The price of an attacker has
several parts, none of which can be paid with another: seconds beside the training that anybody needs, raw images,
clean labelled images, pretrained weights. A is *dominated* by B if B pays no more of any part, recovers no less, and
differs in one of them; who is dominated by nobody, and gives back what can be told from nothing, is on the *frontier*.
What nobody recorded counts as the dearest; whether an attacker without a measured time or recovery is on it is not
known, and it takes nobody else off.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ue_audit.rendering.figures import count, duration, interval, share
from ue_audit.thresholds import BROKEN, FAINT, MIN_EFFECT

Attacker = Mapping[str, Any]
RESULT = ("countermeasure", "folder", "learner", "counts", "chosen", "undoes", "recovery", "ceiling_recovery")
NOTHING = "no images of its own"


def listing(protected: str, victim: str, effect: float, attackers: Iterable[Attacker]) -> dict[str, Any]:
    """One price list: the attackers of a protected set under a victim, the cheapest first, and what an owner reads
    off. `effect` is C - V: where it is none, nothing can be bought back, and nobody is on the frontier."""
    rows = sorted(attackers, key=lambda a: (_time(a), -_value(a), a["countermeasure"], a["folder"]))
    marks = frontier(rows) if effect >= MIN_EFFECT else [False] * len(rows)
    marked = [{**row, "frontier": mark} for row, mark in zip(rows, marks, strict=True)]
    return {"protected": protected, "victim": victim, "sentence": sentence(rows, effect), "attackers": marked}


def price(attacker: Attacker) -> tuple[float, ...]:
    """Seconds, raw images (with those of the prior's start), labelled images, files of weights; unknown is infinite."""
    start, weights = attacker["start"], attacker["weights"]
    raw = _dear(attacker["raw_images"]) + (_dear(start["images"]) if start else 0)
    return _time(attacker), raw, _dear(attacker["own_images"]), math.inf if weights is None else len(weights)


def frontier(attackers: Sequence[Attacker]) -> list[bool | None]:
    """Of each attacker, whether no cheaper one recovers as much, and no equally cheap one more; None if not known."""
    known = [a for a in attackers if a["counts"] and a["recovery"] is not None and math.isfinite(_time(a))]

    def on(a: Attacker) -> bool | None:
        if a["recovery"] is None or not math.isfinite(_time(a)):
            return None
        return bool(a["counts"]) and _told(a) and not any(dominates(b, a) for b in known)

    return [on(a) for a in attackers]


def dominates(b: Attacker, a: Attacker) -> bool:
    """Whether B pays no more of anything than A and recovers no less, and is not the same in all of it."""
    pays, paid = price(b), price(a)
    no_worse = all(x <= y for x, y in zip(pays, paid, strict=True)) and _value(b) >= _value(a)
    return no_worse and (pays, _value(b)) != (paid, _value(a))


def cheapest(attackers: Sequence[Attacker]) -> Attacker | None:
    """The quickest attacker that gives back at least half, and more than nothing by its interval; None where there is
    none, or no time was measured."""
    won = [a for a in _counting(attackers) if _value(a) >= BROKEN and _told(a) and math.isfinite(_time(a))]
    return min(won, key=lambda a: (_time(a), -_value(a)), default=None)


def cheapest_in_words(attackers: Sequence[Attacker]) -> str | None:
    found = cheapest(attackers)
    if found is None:
        return None
    where = f" on {found['device']}" if found["device"] else ""
    return (
        f"{found['countermeasure']}: gives back {share(found['recovery']['value'])}, with "
        f"{' and '.join(needs(found)) or NOTHING}, in {_spent(found)} beside the training{where}"
    )


# -- in words ----------------------------------------------------------------------------------------------


def sentence(attackers: Sequence[Attacker], effect: float) -> str:
    """What an owner reads off: the cheapest that the strongest is not clearly above, and what more would cost; and what
    the verdict goes by, where that is another."""
    told = _offers(attackers, effect)
    chosen = next((a for a in _counting(attackers) if a["chosen"] and a["recovery"] is not None), None)
    if chosen is None or effect < MIN_EFFECT or _names(told, chosen["countermeasure"]):
        return told
    return f"{told} The verdict goes by {chosen['countermeasure']}, chosen on validation images: {_gives(chosen)}."


def _names(told: str, attacker: str) -> bool:
    """Whether a sentence of these names the attacker, and not one of which it is only a part."""
    return re.search(rf"(?<![\w.+-])(?<!\+ ){re.escape(attacker)}(?=, with|\.)", told) is not None


def _offers(attackers: Sequence[Attacker], effect: float) -> str:
    if effect < MIN_EFFECT:
        return "The protection takes less than 10 points, so there is nothing to buy back."
    found = [a for a in _counting(attackers) if a["recovery"] is not None]
    if not found:
        beaten = "Nothing that was tried gives more than the attacker's own images do alone."
        return beaten if attackers else "No attacker was measured."
    best = max(found, key=_value)
    told = [a for a in found if _told(a)]
    if not told:
        return f"Nothing that was tried recovers anything: the most is {_gives(best)}, by {best['countermeasure']}."
    won = [a for a in told if _value(a) >= BROKEN]
    if not won:
        most = max(told, key=_value)
        return f"Nothing that was tried recovers half: {_offer(most)} recovers {_gives(most)}, the most."
    free = [a for a in won if not needs(a)]
    if free:
        first = _cheapest_of_the_best(free)
        return f"{_offer(first)} recovers {_gives(first)}. {_more(first, found)}".rstrip()
    first = _cheapest_of_the_best(won)
    without = max((a for a in found if not needs(a)), key=_value, default=None)
    rest = (
        f" Without images or weights the most is {_gives(without)}, by {without['countermeasure']}." if without else ""
    )
    return f"It takes more than the published images: {_offer(first)} recovers {_gives(first)}.{rest}"


def needs(attacker: Attacker) -> list[str]:
    """What an attacker must have beside the published images and a computer, in words; nothing: an empty list."""
    found = []
    if attacker["raw_images"] != 0:
        found.append(_amount(attacker["raw_images"], "raw images"))
    if attacker["start"]:
        found.append(f"a prior to start from ({_amount(attacker['start']['images'], 'images')})")
    if attacker["own_images"] != 0:
        found.append(_amount(attacker["own_images"], "clean labelled images"))
    if found and attacker["overlap"] == "shared":
        found[-1] += " (some of them the owner's)"
    if attacker["weights"] is None:
        found.append("perhaps pretrained weights")
    elif attacker["weights"]:
        found.append(f"pretrained weights ({', '.join(attacker['weights'])})")
    return found


def _amount(n: int | None, what: str) -> str:
    return f"an unknown number of {what}" if n is None else f"{count(n)} {what}"


def _offer(attacker: Attacker) -> str:
    """The attacker, what it needs and how long it takes."""
    has = [*(needs(attacker) or [NOTHING]), _spent(attacker)]
    return f"{attacker['countermeasure']}, with {', '.join(has[:-1])} and {has[-1]},"


def _spent(attacker: Attacker) -> str:
    seconds = _time(attacker)
    return "under a second" if seconds < 1 else duration(seconds) if math.isfinite(seconds) else "an unknown time"


def _gives(attacker: Attacker) -> str:
    found = attacker["recovery"]
    return f"{share(found['value'])} {interval(found, lambda value: share(value).removesuffix(' %'))}".rstrip()


def _more(first: Attacker, found: Sequence[Attacker]) -> str:
    """What recovers clearly more than `first`, or that nothing does."""
    others = [a for a in found if a is not first]
    above = [a for a in others if _clearly_above(a, first)]
    if above:
        next_one = _cheapest_of_the_best(above)
        return f"Clearly more, {_gives(next_one)}, is recovered by {_offer(next_one).rstrip(',')}."
    higher = [a for a in others if _value(a) > _value(first)]
    if not higher:
        return "Nothing tried recovers more." if others else ""
    top = max(higher, key=_value)
    apart = "there are no intervals to tell them apart" if _low(top) is None else "the intervals overlap"
    return f"The most, {_gives(top)}, is recovered by {_offer(top).rstrip(',')}; {apart}."


def _cheapest_of_the_best(attackers: Sequence[Attacker]) -> Attacker:
    """The cheapest that the strongest is not clearly above; without intervals, the strongest."""
    best = max(attackers, key=lambda a: (_value(a), -_time(a)))
    if _low(best) is None:
        return best
    equal = [a for a in attackers if a["recovery"]["high"] is not None and not _clearly_above(best, a)]
    return min([best, *equal], key=lambda a: (_time(a), -_value(a)))


def _counting(attackers: Iterable[Attacker]) -> list[Attacker]:
    return [a for a in attackers if a["counts"]]


def _told(attacker: Attacker) -> bool:
    """Whether what it recovers can be told from nothing."""
    low = _low(attacker)
    return low > 0 if low is not None else _value(attacker) >= FAINT


def _clearly_above(a: Attacker, b: Attacker) -> bool:
    """Whether the intervals are apart; False where one is not known."""
    low, high = _low(a), b["recovery"]["high"]
    return low is not None and high is not None and low > high


def _low(attacker: Attacker) -> float | None:
    low: float | None = attacker["recovery"]["low"]
    return low


def _value(attacker: Attacker) -> float:
    return -math.inf if attacker["recovery"] is None else float(attacker["recovery"]["value"])


def _time(attacker: Attacker) -> float:
    return _dear(attacker["seconds"]["extra"])


def _dear(amount: float | None) -> float:
    return math.inf if amount is None else float(amount)

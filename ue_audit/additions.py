"""Seeds added where an interval leaves a verdict open: to which cells, and why. No files, no torch.

A contest (a protected set under a victim) is open where an interval, the report's own at LEVEL, holds a decision:

    effect     C - V holds the 10 points below which there is no grade
    survival   S of the chosen countermeasure holds a boundary of the grades

Then each cell that this interval rests on and that has the fewest seeds gets one more: clean and protected, for the
survival the chosen countermeasure's, too. That is looked at again, up to the most that were asked for. The arms of an
interval are independent samples, so that nothing has to stay paired; noise controls and ceilings are in none of the two
and get no more. Where there will be no grade (no noise control, fewer than three seeds) nothing is open.

Who stops by a look at an interval makes it cover less: what misses a boundary by chance is kept. Hence a stricter look
than what is reported. Simulated (3 to 5 seeds, spreads .3 to 5 points, 500 and 2,000 test images, truths at boundaries
and between them, 288 settings, 30,000 audits of each), the report's interval of 95 % held the truth at the worst, and
on average, and the seeds were on average

    looks at 95 %   89.6 %   94.3 %   4.51
             98 %   92.4 %   94.9 %   4.58
             99 %   92.7 %   95.1 %   4.62

A look is taken when all trainings asked for so far are there, and at these alone: however many sittings and whatever
was taken over, the same records come out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ue_audit import contests, scores
from ue_audit.contests import Contest, Group, Record
from ue_audit.rendering.figures import interval, points, remaining
from ue_audit.scores import Estimate
from ue_audit.thresholds import MIN_EFFECT, MIN_SEEDS

if TYPE_CHECKING:
    from ue_audit.trainings import Training

LEVEL = 0.99  # of the intervals that are looked at
COVERS = 0.92  # what the report's intervals of 95 % then cover at the worst, by simulation
Row = tuple[str, str, str]  # role, folder, learner


class Look(NamedTuple):
    """A contest that was open at `seeds`: what its interval held, and the cells that got one more."""

    protected: str
    learner: str
    seeds: int
    of: str  # "effect" or "survival"
    found: Estimate
    holds: tuple[float, ...]
    rows: tuple[Row, ...]


def looks(contest: Contest) -> Iterator[Look]:
    """What is open of a contest."""
    arms = [contest.clean, contest.protected]
    taken = scores.effect(arms[0].arm(), arms[1].arm(), LEVEL)
    if contest.noise is None or contest.seeds < MIN_SEEDS or taken.low is None or taken.high is None:
        return
    if taken.high < MIN_EFFECT:  # it never protected, whatever survives
        return
    if taken.low < MIN_EFFECT:
        yield _look(contest, "effect", taken, (MIN_EFFECT,), arms)
    if contest.best is not None:
        arms.append(contest.best[0])
        left = scores.survival(arms[0].arm(), arms[1].arm(), arms[2].arm(), LEVEL)
        if left is not None and (holds := scores.boundaries(left)):
            yield _look(contest, "survival", left, holds, arms)


def _look(contest: Contest, of: str, found: Estimate, holds: tuple[float, ...], groups: Sequence[Group]) -> Look:
    fewest = min(group.arm().seeds for group in groups)
    rows = tuple((g.role, g.folder, g.learner) for g in groups if g.arm().seeds == fewest)
    return Look(contest.protected.folder, contest.protected.learner, fewest, of, found, holds, rows)


@dataclass(frozen=True)
class Asking:
    """What an evaluation asks for: of all `possible` trainings the first `seeds` of each cell, and those that looks
    add. `parents` says which folder a purified one was made from."""

    possible: Sequence["Training"]
    seeds: int
    parents: Mapping[str, str]

    def asked(self, done: Mapping[str, Sequence[Record]]) -> list["Training"]:
        """The trainings asked for so far, in the order of `possible`; `done` has the records by their keys."""
        *_, (asked, _) = self._rounds(done)
        return asked

    def looks(self, done: Mapping[str, Sequence[Record]]) -> list[Look]:
        """The looks that added trainings to those planned, in order."""
        return [look for _, found in self._rounds(done) for look in found]

    def whole(self, done: Mapping[str, Sequence[Record]]) -> bool:
        """Whether all is there that was planned, so that there was a look."""
        return all(t.key in done for t in next(self._rounds(done))[0])

    def _rounds(self, done: Mapping[str, Sequence[Record]]) -> Iterator[tuple[list["Training"], list[Look]]]:
        """What is asked for in all, and the looks that led there: first what is planned, then round by round."""
        every: dict[Row, list[Training]] = {}
        for t in self.possible:
            every.setdefault((t.cell.role, t.cell.folder, t.learner.label), []).append(t)
        counts, found = dict.fromkeys(every, self.seeds), list[Look]()
        while True:
            keys = {t.key for row, own in every.items() for t in own[: counts[row]]}
            yield [t for t in self.possible if t.key in keys], found
            if not keys <= set(done):
                return
            now = contests.gather(contests.groups(done[key][0] for key in keys), self.parents)
            found = [look for c in now for look in looks(c) if all(counts[row] < len(every[row]) for row in look.rows)]
            if not found:
                return
            counts |= {row: counts[row] + 1 for look in found for row in look.rows}


# -- what is said of it ------------------------------------------------------------------------------------


def noted(asking: Asking, done: Mapping[str, Sequence[Record]], most: int) -> dict[str, Any]:
    """For the manifest and the report: which sets got more seeds and why. {} where the planned ones are not all there.

    {"from", "to", "sets": [{protected, learner, seeds (of the protected set, now), added, open (still, after that),
    looks: [{seeds, of: effect|survival, low, high, holds}], sentence}]}; low and high null: there was no interval.
    """
    if not asking.whole(done):
        return {}
    led = asking.looks(done)
    now = contests.gather(contests.groups(record for records in done.values() for record in records), asking.parents)
    several = len({contest.protected.learner for contest in now}) > 1
    rows = []
    for contest in now:
        name = (contest.protected.folder, contest.protected.learner)
        own = [look for look in led if (look.protected, look.learner) == name]
        if own:
            row = _noted(contest, own, asking.seeds)
            rows.append(row | {"sentence": sentence(row, several)})
    return {"from": asking.seeds, "to": most, "sets": rows}


def _noted(contest: Contest, own: Sequence[Look], planned: int) -> dict[str, Any]:
    seeds = contest.protected.arm().seeds
    return {
        "protected": contest.protected.folder,
        "learner": contest.protected.learner,
        "seeds": seeds,
        "added": seeds - planned,
        "open": any(looks(contest)),
        "looks": [
            {"seeds": look.seeds, "of": look.of, "low": look.found.low, "high": look.found.high, "holds": [*look.holds]}
            for look in own
        ],
    }


def sentence(row: Mapping[str, Any], several: bool) -> str:
    """Of one set of `noted`: how many seeds were added, what its interval held at the first look, and whether it is
    open yet. Of `several` victims the one is named."""
    first = row["looks"][0]
    write = points if first["of"] == "effect" else remaining
    shown = f"{interval(first, write)} at {100 * LEVEL:g} %"
    if first["low"] is None:
        why = f"whose survival had no interval with {first['seeds']} seeds"
    elif first["of"] == "effect":
        why = f"whose effect {shown} held the {write(first['holds'][0])} points below which there is no grade"
    else:
        why = f"whose survival {shown} held the grade boundar{_listed([write(bound) for bound in first['holds']])}"
    still = f"; with {row['seeds']} it is still so" if row["open"] else ""
    victim = f" with {row['learner']}" if several else ""
    return f"{row['added']} for {row['protected']}{victim}, {why}{still}"


def _listed(bounds: Sequence[str]) -> str:
    """Ends "boundar": "y .40", "ies .40 and .60"."""
    return f"y {bounds[0]}" if len(bounds) == 1 else f"ies {', '.join(bounds[:-1])} and {bounds[-1]}"


def words(found: Mapping[str, Any]) -> str:
    """What `noted` says, in a few sentences without the last stop."""
    sets = "; ".join(row["sentence"] for row in found["sets"])
    added = f"Seeds added: {sets}" if sets else "No interval did: none was added"
    planned = f"{found['from']} planned, up to {found['to']} where an interval of {100 * LEVEL:g} % held a decision"
    cost = f"in simulation the intervals of 95 % held the truth in {100 * COVERS:g} % of audits at the worst"
    return f"{planned}. {added}. To look and stop costs coverage: {cost}"

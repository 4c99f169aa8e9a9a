"""What report.json holds, put together from the facts of an evaluation; `report` documents the keys. Writes nothing."""

from typing import Any

from ue_audit import (
    __version__,
    background,
    beside,
    contests,
    facts,
    findings,
    honesty,
    outlay,
    plainly,
    prices,
    uncertainty,
    verdict,
)
from ue_audit.contests import READING, Contest, Group
from ue_audit.digests import portable
from ue_audit.facts import Facts
from ue_audit.settings import ReportSettings
from ue_audit.spelling import command, recorded
from ue_audit.thresholds import MIN_EFFECT

SCHEMA = 1


def compose(known: Facts, sheet: dict[str, Any] | None, settings: ReportSettings) -> dict[str, Any]:
    """The content of report.json; equal facts give equal content."""
    groups = contests.groups(known.records)
    found = contests.gather(groups, known.parents, known.settings)
    head = contests.headline(found)
    notes = background.notes(known)
    setup = _setup(known, groups)
    tried = [(c, [_attack(known, c, *pair, setup["chance"]) for pair in c.ranked]) for c in found]
    priced = [_priced(known, c, attacks) for c, attacks in tried]
    headed = next((listed for c, listed in zip(found, priced, strict=True) if c is head), None)
    judged = verdict.judge(head)
    worth = judged["effect"] is not None and judged["effect"]["value"] >= MIN_EFFECT
    cheapest = prices.cheapest_in_words(headed["attackers"]) if headed and worth else None
    checks = honesty.checks(head, groups, notes)
    plain = plainly.sentences(known, head, found, headed["attackers"] if headed else [], judged["grade"])
    report = {
        "schema": SCHEMA,
        "generator": f"ue-audit {__version__}",
        "title": known.title,
        "verdict": judged | {"cheapest": cheapest, "plain": [*plain, *plainly.caution(checks)]},
        "checks": checks,
        "warnings": _warnings(known),
        "setup": setup,
        "audits": [
            {"protected": c.protected.folder, "learner": c.protected.learner, **verdict.judge(c)} for c in found
        ],
        "prices": priced,
        "cells": findings.cells(groups, found),
        "countermeasures": [attack for _, attacks in tried for attack in attacks],
        "uncertainty": uncertainty.sources(head, _repeats(known, head)) if head else None,
        "seeds_added": known.evaluation.notes.get("seeds_added"),
        "readings": findings.readings(head) if head else [],
        "published": beside.gather(known, groups),
        "curves": [findings.curve(group) for group in groups],
        "per_class": findings.per_class(head) if head else [],
        "fidelity": background.fidelity(known),
        "prior": background.prior(known),
        "sheet": sheet,
        "limits": verdict.limits(head, groups, notes),
        "words": plainly.words(known, found),
        "commands": [*known.commands, _command(settings)],
        "provenance": background.provenance(known),
    }
    rounded: dict[str, Any] = _rounded(report)
    return rounded


def _command(settings: ReportSettings) -> str:
    return command("report", ReportSettings(**portable(recorded(settings), settings.place().resolve().parent)))


def _setup(known: Facts, groups: list[Group]) -> dict[str, Any]:
    first = known.records[0]
    recipes = {g.learner: g.records[0] for g in groups}
    return {
        "images": first["images"],
        "classes": len(known.classes),
        "chance": 1 / len(known.classes),
        "n_test": first["n_test"],
        "n_val": first["n_val"],
        "seeds": min(g.arm().seeds for g in groups),
        "reading": READING,
        "learners": [
            {"name": name, "epochs": record["epochs"], "recipe": record["recipe"]} for name, record in recipes.items()
        ],
    }


def _attack(known: Facts, contest: Contest, treated: Group, ceiling: Group | None, chance: float) -> dict[str, Any]:
    folder = treated.folder if treated.role == "purified" else None
    steps = known.purifications(treated.folder) or [] if folder else []
    guide = next((guide for step in steps if (guide := facts.guide_of(known.made[step]))), None)
    recipe = treated.records[0]["recipe"] if treated.kind == "countermeasure" else {}
    made = known.settings.get(folder, {}) if folder else {}
    more = {
        "seconds": known.seconds(folder, treated.records),
        "device": outlay.devices(known, treated),
        "settings": recipe | made | ({"guide used": guide} if guide else {}),
    }
    return findings.attack(contest, treated, ceiling, chance) | more


def _priced(known: Facts, contest: Contest, attacks: list[dict[str, Any]]) -> dict[str, Any]:
    """The price list of one protected set under one victim."""
    rows = [
        {key: attack[key] for key in prices.RESULT} | outlay.of(known, contest, treated)
        for attack, (treated, _) in zip(attacks, contest.ranked, strict=True)
    ]
    return prices.listing(contest.protected.folder, contest.protected.learner, contest.effect.value, rows)


def _repeats(known: Facts, contest: Contest) -> list[Group]:
    """The chosen attack, and the same with other seeds of purification."""
    best = contest.best[0] if contest.best else None
    again = known.alike(best.folder) if best and best.role == "purified" else []
    return [g for g, _ in contest.attacks if best and g.folder in again and g.learner == best.learner]


def _warnings(known: Facts) -> list[str]:
    """What the stages warned of, the sets and priors by name, the evaluation last."""
    outputs = {**known.made, **{m.subject: m for m in known.priors.values()}}
    found = [f"{name}: {text}" for name, m in outputs.items() for text in m.warnings]
    return [*found, *known.evaluation.warnings]


def _rounded(value: Any) -> Any:
    """Floats to six decimals: more would only differ between machines."""
    if isinstance(value, float):
        return round(value, 6) + 0.0
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value

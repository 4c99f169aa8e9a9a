"""report.json's `published`: every accuracy beside what was published of the same, or why nothing is comparable."""

from collections.abc import Iterator, Mapping
from typing import Any

from ue_audit import comparable, manifest, published
from ue_audit.comparable import Images, Made, Subject
from ue_audit.contests import Group
from ue_audit.facts import Facts
from ue_audit.manifest import Manifest
from ue_audit.published import Figure, Published

COMPARED = ("clean", "protected", "purified", "ceiling")  # of noise controls nothing is published
REASONS = 2  # conditions named where nothing is comparable: the first ones
LOSSY = (".jpg", ".jpeg")


def gather(known: Facts, groups: list[Group]) -> dict[str, Any]:
    """The figures that are comparable, and the training sets without one, together by the reason."""
    figures = published.load()
    rows: list[dict[str, Any]] = []
    reasons: dict[tuple[bool, tuple[str, ...]], list[str]] = {}
    images = _images(known, groups[0].records[0], figures)
    for group in (g for g in groups if g.role in COMPARED):
        subject = _subject(known, group, images)
        match = comparable.compare(subject, figures)
        rows += [_row(group, subject, figure, figures) for figure in match.figures]
        if not match.figures:
            reason = (match.nearest is None, match.because[:REASONS])
            reasons.setdefault(reason, []).append(_name(group, groups))
    name = comparable.recognise(images, figures.datasets)
    return {
        "dataset": figures.datasets[name].title if name else None,
        "figures": rows,
        "not_comparable": [
            {"cells": cells, "because": list(because)}
            for (_, because), cells in sorted(reasons.items(), key=lambda item: (item[0][0], -len(item[1])))
        ],
    }


def _row(group: Group, subject: Subject, figure: Figure, figures: Published) -> dict[str, Any]:
    at, ours = figure.at, group.arm(figure.at.reading).mean
    return {
        "role": group.role,
        "folder": group.folder,
        "countermeasure": group.countermeasure,
        "learner": group.learner,
        "reading": at.reading,
        "accuracy": ours,
        "published": figure.value,
        "spread": figure.spread,
        "runs": at.runs,
        "difference": ours - figure.value,
        "source": figures.sources[at.source].paper,
        "place": at.place,
        "evidence": figures.marks[at.mark],
        "differs": list(comparable.remarks(subject, figure, figures)),
    }


def _name(group: Group, groups: list[Group]) -> str:
    several = len({g.learner for g in groups}) > 1
    return f"{group.folder}, {group.learner}" if several else group.folder


# -- what the manifests know -------------------------------------------------------------------------------


def _images(known: Facts, record: Mapping[str, Any], figures: Published) -> Images:
    """The images as they were trained on. Whether they are JPEG files is read only where it matters."""
    size = known.evaluation.parameters.get("size")
    found = Images(tuple(sorted(known.classes)), size, record["images"], record["n_test"])
    if comparable.recognise(found, figures.datasets) is None:
        return found
    sources = (r["source"] for name, m in known.made.items() if m.stage == "protect" for r in _records(known, name))
    return found._replace(lossy=any(str(source).lower().endswith(LOSSY) for source in sources))


def _records(known: Facts, name: str) -> Iterator[dict[str, Any]]:
    yield from (record for record in manifest.records(known.folders[name]) if record.get("source") is not None)


def _subject(known: Facts, group: Group, images: Images) -> Subject:
    record = group.records[0]
    line = _line(known, group.folder)
    protection = next((m for m in line if m.stage == "protect"), None)
    purifiers = [m for m in line if m.stage == "purify"]
    wanted = (group.role in ("protected", "purified"), group.role in ("purified", "ceiling"))
    return Subject(
        images=images._replace(train=record["images"]),
        learner=Made(record.get("learner_method", group.learner), record["recipe"]),
        epochs=record["epochs"],
        protection=_protected(protection) if protection else None,
        purifier=_purified(purifiers) if purifiers else None,
        known=(protection is not None, bool(purifiers)) == wanted,
    )


def _line(known: Facts, folder: str) -> list[Manifest]:
    """The manifests of a folder and of those it was made from, as far as there are any."""
    line: list[Manifest] = []
    while folder in known.made and len(line) < len(known.made):
        line.append(known.made[folder])
        folder = known.parents.get(folder, "")
    return line


def _protected(made: Manifest) -> Made:
    """`import` records where the originals lie, and no settings of a method."""
    imported = "clean" in made.settings
    ratio = float(made.settings.get("ratio", 1.0))
    return Made(made.method, None if imported else made.config, made.budget, ratio)


def _purified(line: list[Manifest]) -> Made:
    """One purification; several after each other are a method of their own."""
    return Made("+".join(m.method for m in reversed(line)), line[0].config if len(line) == 1 else {})

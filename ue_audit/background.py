"""What a report says of the folders behind its accuracies: budgets, fidelity, the prior, and where each comes from."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from ue_audit import facts, manifest, methods
from ue_audit.facts import Facts
from ue_audit.manifest import Manifest

BANDS = ("residual_low", "residual_mid", "residual_high")  # shares of what is left over, by frequency
DIGITS = 12  # of a digest, where it is shown


def notes(known: Facts) -> dict[str, Any]:
    """The evaluation's notes and what the checks ask for beside them."""
    guides = [guide for m in known.made.values() if (guide := facts.guide_of(m))]
    attacks = [m for name, m in known.made.items() if known.roles[name] == "purified"]
    return {
        **known.evaluation.notes,
        "budgets": {name: found for name, m in known.made.items() if (found := budget(known.folders[name], m))},
        "guide": next((name for name in guides if name != "none"), None),
        "replaced": list(known.replaced),
        "purifiers": sorted({method for m in attacks for method in methods.behind("purifier", m.method)}),
    }


MEASURES = {"linf": ("linf", "levels", 255), "l2": ("l2", "in [0,1] units", 1), "l0": ("changed", "pixels", 1)}
"""Of each norm: the figure in the records, its unit, and how many of it make one unit of the budget."""


def budget(folder: Path, made: Manifest) -> dict[str, Any] | None:
    """The largest change of a protected set beside what was allowed; None for other sets and other norms."""
    allowed = made.budget
    if made.stage != "protect" or allowed is None or allowed.norm not in MEASURES:
        return None
    figure, unit, per_unit = MEASURES[allowed.norm]
    records = manifest.records(folder)
    worst = max(records, key=lambda r: r[figure] / (allowed.at(r["height"], r["width"]) or 1))
    largest, limit = worst[figure], per_unit * allowed.at(worst["height"], worst["width"])
    kept = largest <= limit + 1e-6
    return {"norm": allowed.norm, "largest": largest, "limit": limit, "unit": unit, "kept": kept}


def fidelity(known: Facts) -> list[dict[str, Any]]:
    """Distances to the clean originals, per folder; what a protected set lacks is read from its purified sets."""
    found: Mapping[str, Mapping[str, Any]] = known.evaluation.notes.get("fidelity") or {}
    rows = []
    for folder, own in found.items():
        children = [found[name] for name, parent in known.parents.items() if parent == folder and name in found]
        from_clean = known.parents.get(folder) not in known.made and folder in known.parents
        of_clean = {"psnr_clean": own.get("psnr")} if from_clean else {}
        values = {
            key: _spread(next((v for v in _candidates(key, own, children, of_clean) if v is not None), None))
            for key in ("psnr", "ssim", "lpips", "residual_correlation", *BANDS)
        }
        rows.append({"folder": folder, "linf": _spread(own.get("linf")), **values})
    return rows


def _candidates(key: str, own: Mapping[str, Any], children: Any, of_clean: Mapping[str, Any]) -> Iterator[Any]:
    if key.startswith("residual"):
        yield own.get(key)
        return
    yield own.get(f"{key}_clean")
    yield of_clean.get(f"{key}_clean")
    for child in children:
        yield child.get(f"{key}_protected_clean")


def _spread(value: Any) -> dict[str, float | None] | None:
    """A mean with percentiles, from {"mean", "p5", "p95"} or a bare mean."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {"mean": value["mean"], "p5": value.get("p5"), "p95": value.get("p95")}
    return {"mean": float(value), "p5": None, "p95": None}


def prior(known: Facts) -> dict[str, Any] | None:
    """The attacker's prior: its images, start, time, figures of merit, and duplicates with the other sets."""
    found = known.evaluation.notes.get("prior")
    if not found:
        return None
    seconds = next((facts.trained_seconds(m) for m in known.priors.values()), None)
    overlap, near = (known.evaluation.notes.get(key) or {} for key in ("overlap", "near"))
    return {
        "name": found["name"],
        "images": found.get("images"),
        "start": found.get("start"),
        "seconds": seconds,
        "figures": {f"sigma {sigma}": value for sigma, value in (found.get("figures") or {}).items()},
        "overlap": {pair: count for pair, count in overlap.items() if "prior" in pair.split(" ∩ ")},
        "near": {pair: one["count"] for pair, one in near.items() if "prior" in pair.split(" ∩ ")},
    }


def provenance(known: Facts) -> list[dict[str, Any]]:
    """Every output behind the report with the start of its digest; the owner's folders have no stage."""
    rows = [_origin(name, known.roles[name], known.made.get(name), known.digests[name]) for name in known.folders]
    priors = {m.subject: m for m in known.priors.values()}
    rows += [_origin(name, "prior", m, m.sha256) for name, m in priors.items()]
    evaluation = _origin(f"{known.title}.eval", "evaluation", known.evaluation, known.evaluation.tree)
    return [*rows, evaluation | {"parents": list(known.folders)}]


def _origin(name: str, role: str, made: Manifest | None, digest: str) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "parents": list(dict.fromkeys(PurePosixPath(unquote(d.uri)).name for d in made.dependencies)) if made else [],
        "stage": made.stage if made else "the owner's images",
        "method": made.method if made else "",
        "settings": made.config if made else None,
        "seed": made.seed if made else None,
        "digest": digest[:DIGITS],
        "seconds": made.run.seconds if made else None,
    }

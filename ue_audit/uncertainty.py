"""Where the doubt about an attack comes from: test images, training seeds, and the seed of its purification.

No files, no torch.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ue_audit import scores
from ue_audit.contests import Contest, Group
from ue_audit.scores import Arm
from ue_audit.thresholds import UNDEFINED_EFFECT


def sources(contest: Contest, repeats: Sequence[Group]) -> dict[str, Any] | None:
    """Where the doubt about the chosen attack comes from: test images, training seeds, and the seed of purification,
    of which `repeats` are the runs. None where no attack was measured."""
    if contest.best is None:
        return None
    best = contest.best[0]
    arms = (contest.clean.arm(), contest.protected.arm(), best.arm())
    sampling = [sampling_error(arm) for arm in arms]
    spreads = [arm.spread for arm in arms]
    of_means = [None if arm.spread is None else arm.spread / math.sqrt(arm.seeds) for arm in arms]
    sources = [
        _source("test", arms[0].n_test, sampling, _in_recovery(arms, sampling)),
        _source("training", contest.seeds, spreads, _in_recovery(arms, of_means)),
    ]
    if best.role == "purified":
        between = between_runs([group.arm() for group in repeats])
        alone = between[1] if between else None
        sources.append(
            _source("purification", len(repeats), [None, None, alone], _in_recovery(arms, [0.0, 0.0, alone]))
            | {"between_runs": between[0] if between else None}
        )
    return {
        "protected": contest.protected.folder,
        "victim": contest.protected.learner,
        "countermeasure": best.attack,
        "folder": best.folder,
        "sources": sources,
    }


def _source(name: str, n: int, errors: Sequence[float | None], recovery: float | None) -> dict[str, Any]:
    clean, protected, treated = errors
    return {"source": name, "n": n, "clean": clean, "protected": protected, "treated": treated, "recovery": recovery}


def _in_recovery(arms: Sequence[Arm], errors: Sequence[float | None]) -> float | None:
    clean, protected, treated = (arm.mean for arm in arms)
    known = [error for error in errors if error is not None]
    if len(known) < len(arms):
        return None
    return recovery_error(clean, protected, treated, (known[0], known[1], known[2]))


def sampling_error(arm: Arm) -> float:
    """The standard error of an accuracy that the test images make: another such test set would differ by that."""
    return math.sqrt(scores.sampling(arm))


def between_runs(runs: Sequence[Arm]) -> tuple[float, float | None] | None:
    """The spread of several runs' mean accuracies, and what of it their training seeds do not explain.

    A mean over n seeds of spread s scatters by s / sqrt(n) in any case; that variance is taken off, 0 at the least.
    None for a single run; the second is None where a run has one seed.
    """
    if len(runs) < 2:
        return None
    spread = float(np.std([run.mean for run in runs], ddof=1))
    expected = [run.spread**2 / run.seeds for run in runs if run.spread is not None]
    if len(expected) < len(runs):
        return spread, None
    return spread, math.sqrt(max(0.0, spread**2 - scores.mean(expected)))


def recovery_error(clean: float, protected: float, treated: float, errors: tuple[float, float, float]) -> float | None:
    """The standard error of RR from those of C, V and P, in this order (delta method); None where RR is undefined."""
    fall = clean - protected
    if fall < UNDEFINED_EFFECT:
        return None
    rr = (treated - protected) / fall
    of_clean, of_protected, of_treated = errors
    return math.hypot(rr * of_clean, (1 - rr) * of_protected, of_treated) / fall

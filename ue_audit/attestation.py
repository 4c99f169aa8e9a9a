"""report.test-result.json: the audit as an in-toto test result, for policy engines. Pure.

A Statement v1 with the predicate test-result v0.1. Its subject is the protected set that the verdict is about, by tree
digest; its configuration is the evaluation, by tree digest, and report.json, by sha256. The tests are the honesty
checks, and one more, whether the protection survives:

    passed   the check holds                     survival's lower end reaches the bound
    warned   the check warns, or is unknown      the value does, its lower end does not, and no bound was asked for
    failed   the check fails                     otherwise; also without an interval

The bound is that of --fail-under; where none is asked for it is the share below which an attack counts as successful.
The result is the worst of the tests. Equal reports give equal bytes.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from ue_audit.digests import to_json
from ue_audit.statement import TYPE, Dependency
from ue_audit.thresholds import BROKEN

FILE = "report.test-result.json"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
RESULTS = {"failedTests": "FAILED", "warnedTests": "WARNED", "passedTests": "PASSED"}  # the worst first
OUTCOMES = {"ok": "passedTests", "warn": "warnedTests", "unknown": "warnedTests", "fail": "failedTests"}
BOUND = 1 - BROKEN  # of survival, where none is asked for


def statement(
    report: Mapping[str, Any], subject: tuple[str, str], evaluation: Dependency, data: bytes, bound: float | None = None
) -> bytes:
    """The statement's bytes; `subject` is a name and its tree digest, `data` are the bytes of report.json."""
    tests = [(check["name"], OUTCOMES[check["state"]]) for check in report["checks"]]
    tests.append(_survival(report["verdict"]["survival"], bound))
    listed = {outcome: sorted(name for name, found in tests if found == outcome) for outcome in reversed(RESULTS)}
    made = {
        "_type": TYPE,
        "subject": [{"name": subject[0], "digest": {"dirHash1": subject[1]}}],
        "predicateType": PREDICATE,
        "predicate": {
            "result": _worst(found for _, found in tests),
            "configuration": [
                {"name": "evaluation", "uri": evaluation.uri, "digest": {"dirHash1": evaluation.digest["tree"]}},
                {"name": "report.json", "digest": {"sha256": hashlib.sha256(data).hexdigest()}},
            ],
            **listed,
        },
    }
    return (to_json(made, indent=2) + "\n").encode()


def _survival(survival: Mapping[str, float | None] | None, asked: float | None) -> tuple[str, str]:
    """The name and outcome of the one test that is no honesty check."""
    bound = BOUND if asked is None else asked
    name = f"Survival of at least {bound:g}"
    value, low = (survival[key] if survival else None for key in ("value", "low"))
    if value is None or low is None:
        return name, "failedTests"
    if low >= bound:
        return name, "passedTests"
    return name, "warnedTests" if asked is None and value >= bound else "failedTests"


def _worst(outcomes: Iterable[str]) -> str:
    found = set(outcomes)
    return next(result for outcome, result in RESULTS.items() if outcome in found)

"""What each command does, once its options are read: settings, stage or chain, closing words."""

import json
import shlex
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import typer
from pydantic import TypeAdapter

from ue_audit import audit, chain, configured, manifest, methods, ranks, screen, shards, standing
from ue_audit import demo as images
from ue_audit import doctor as examination
from ue_audit.config import did_you_mean, parse_set
from ue_audit.errors import UsageError
from ue_audit.options import Given, Modes, modes, settings
from ue_audit.quantities import parse_share
from ue_audit.rendering import benched, compared, detected, listing, terminal
from ue_audit.rendering.figures import decimal
from ue_audit.rendering.summary import report_panel
from ue_audit.rendering.text import safe
from ue_audit.spelling import MODELS, command
from ue_audit.systems import spelled, typed
from ue_audit.tool_settings import BenchSettings, CompareSettings, DetectSettings

FEEDS = {"purify": ("source", "protect"), "evaluate": ("folders", "purify"), "report": ("evaluation", "evaluate")}
"""Where a stage's input is written, and the stage whose newest output it is when none is named."""


def stage(name: str, given: Given) -> None:
    """One stage, from its options to its closing panel."""
    mode, bound, follows = modes(given), _bound(given.pop("fail_under", None)), not ranks.leads()
    mode = mode._replace(quiet=mode.quiet or follows)
    given |= {} if bound is None else {"fail_under": bound}
    _take_newest(name, given, mode)
    asked: Any = settings(name, MODELS[name], given)
    step = chain.Step(name, asked)
    if follows:
        if not (mode.show_config or mode.dry_run):
            chain.assist(step)
        return
    if mode.show_config:
        screen.show_config(mode, configured.resolved(step))
        return
    with screen.progress(mode) as progress:
        if mode.dry_run:
            plan = chain.plan(step, progress)
            lines = terminal.escaped("\n".join(terminal.plan_lines(plan)))
            screen.result(mode, {"command": name, "plan": plan.model_dump(mode="json")}, lines)
            return
        path = chain.perform(step, progress)
    gate = None if bound is None else _gate(path, bound)
    _closing(mode, name, path, **({"gate": gate} if gate else {}))
    if gate:
        words = "passed" if gate["passed"] else "failed"
        screen.say(mode, f"gate {words}: survival of {bound:g} asked for, {gate['found']}")
        raise typer.Exit(0 if gate["passed"] else 1)


def _take_newest(name: str, given: Given, mode: Modes) -> None:
    field, before = FEEDS.get(name, ("", ""))
    if field and field not in given:
        found = manifest.newest(before)
        screen.say(mode, f"{name}: using {found}, the newest output of {before}")
        given[field] = (found,) if name == "evaluate" else found


def _closing(mode: Modes, title: str, path: Path, **more: Any) -> None:
    """What was made, from its manifest; of a report the verdict, too."""
    m = manifest.read(path)
    document = {"command": title, "output": str(path), "status": m.status, "summary": m.summary}
    following = _from_here(m.next, path.parent)
    document |= {"warnings": m.warnings, "next": following, **more}
    end = terminal.Closing(str(path), m.summary, tuple(m.warnings), following)
    parts = terminal.closing(title, end, panel=terminal.console().is_terminal)
    if m.stage == "report":
        found = _report(path)
        document["verdict"] = found["verdict"]
        end = end._replace(made=str(path / "report.html"), numbers={}, warnings=())
        parts = [report_panel(found), *terminal.closing(title, end, panel=False)]
    screen.result(mode, document, *parts, place=path)


def _from_here(line: str, folder: Path) -> str:
    """A manifest's next command, whose paths may count from the folder of its output, to paste here."""
    try:
        words = shlex.split(line)
    except ValueError:  # a manifest of others may hold a line that is none
        return line
    return typed(spelled(folder / w) if not Path(w).exists() and (folder / w).exists() else w for w in words)


def _report(path: Path) -> Any:
    return json.loads((path / "report.json").read_bytes())


def _bound(text: str | None) -> float | None:
    """The value of --fail-under. Raises UsageError for what is no share: 40 is 4000 %."""
    try:
        found = None if text is None else TypeAdapter(float).validate_python(parse_share(text))
    except ValueError as error:
        raise UsageError(f"--fail-under expects a share such as 0.4 or 40%, found {text!r}") from error
    if found is not None and not 0 <= found <= 1:
        raise UsageError(f"--fail-under expects a share from 0 to 1, such as 0.4 or 40%, found {text!r}")
    return found


def _gate(path: Path, bound: float) -> dict[str, Any]:
    """The lower end of survival held against --fail-under; not passed if there is no interval."""
    low = (_report(path)["verdict"]["survival"] or {}).get("low")
    found = "there is no interval" if low is None else f"its lower end is {decimal(low, 3, (bound,))}"
    return {"bound": bound, "low": low, "passed": low is not None and low >= bound, "found": found}


def compare(given: Given) -> None:
    """Two audits side by side; written only where -o says."""
    mode = modes(given)
    others = [name for name in given if name not in CompareSettings.model_fields]
    if others or mode.show_config or mode.dry_run:
        raise UsageError("--compare takes two audits, -o, --fresh and what to show", hint="leave out everything else")
    asked = settings("report", CompareSettings, given)
    with screen.progress(mode) as progress, _locked(asked.output):
        found, path = chain.module("compare").run(asked, progress)
    end = terminal.Closing(str(path), {}, (), manifest.read(path).next) if path else None
    parts = terminal.closing("report", end, panel=False) if end else []
    screen.result(mode, {"command": "report", "comparison": found}, compared.panel(found), *parts, place=path)


def _locked(output: Path | None) -> AbstractContextManager[None]:
    return nullcontext() if output is None else shards.lock(output)


# -- whole audits ------------------------------------------------------------------------------------------


def run(given: Given) -> None:
    """The audit of a file or preset."""
    mode, output, name = modes(given), given.pop("output", None), _audit_name(given)
    asked, origins = audit.load(name, _audit_flags(given))
    folder = output or Path(f"{asked.name}.audit")
    if asked.source.clean is None and asked.source.demo:
        asked = _with_demo_images(mode, asked, folder / "data")
    _audit(mode, "run", asked, origins, folder)


def _audit_name(given: Given) -> str:
    """The audit's file or preset; with --preset the one argument is the folder of clean images."""
    chosen, first = given.pop("audit_preset", None), given.pop("audit", None)
    if chosen is None and first is None:
        raise UsageError("expected an audit file or preset", hint="such as: ue-audit run --preset quick")
    if chosen is not None and first is not None:
        if "source" in given:
            raise UsageError(f"expected one folder beside --preset {chosen}, found {first} and {given['source']}")
        given["source"] = Path(first)
    return str(chosen or first)


def _with_demo_images(mode: Modes, asked: audit.AuditSettings, data: Path) -> audit.AuditSettings:
    """The audit with the built-in images, unpacked at `data` unless nothing is to be written."""
    screen.say(mode, f"no folder was named: taking the built-in images, 4 classes of CIFAR-10, to {data}")
    if not (mode.show_config or mode.dry_run):
        images.unpack(data)
    raw = asked.source.raw or data / "raw"
    return asked.model_copy(update={"source": asked.source.model_copy(update={"clean": data, "raw": raw})})


def demo(given: Given) -> None:
    """The audit of the built-in images, and the commands for the user's own."""
    mode, folder = modes(given), given.pop("output", Path("ue-audit-demo"))
    preset, data = "demo-quick" if given.pop("quick", False) else "demo", folder / "data"
    given["source"] = data
    asked, origins = audit.load(preset, {"source.raw": data / "raw", **_audit_flags(given)})
    if not (mode.show_config or mode.dry_run):
        images.unpack(data)
    _audit(mode, "demo", asked, origins, folder)
    if not (mode.show_config or mode.dry_run or mode.json or mode.quiet):
        lines = ["the same for your own images in data/ and data/raw/:", *chain.own_folder(asked)]
        screen.result(mode, {}, "\n  ".join(safe(line) for line in lines))


def _audit_flags(given: Given) -> dict[str, Any]:
    """Options by the dotted names of an audit's settings, `--set` below the options themselves."""
    names = {"source": "source.clean", "seeds": "evaluation.seeds", "max_seeds": "evaluation.max_seeds"}
    below = parse_set(given.pop("set", []))
    return {**below, **{names.get(name, name): value for name, value in given.items()}}


def _audit(mode: Modes, title: str, asked: audit.AuditSettings, origins: dict[str, str], folder: Path) -> None:
    if mode.show_config:
        screen.show_config(mode, [("audit", asked, origins)])
        return
    steps = chain.steps(asked, folder)
    if mode.dry_run:
        if asked.source.clean != folder / "data":  # where built-in images are unpacked, but not now
            chain.check_inputs(steps)
        found = zip(steps, standing.states(steps), strict=True)
        states = [{"command": command(*step), "state": state} for step, state in found]
        lines = [f"{state['state']:9} {safe(state['command'])}" for state in states]
        screen.result(mode, {"command": title, "steps": states}, "\n".join([*lines, "nothing was written"]))
        return
    with screen.progress(mode, board=True) as progress:
        path = chain.run(steps, progress, asked.budget)
    _closing(mode, title, path, steps=[command(*step) for step in steps])


# -- looking -----------------------------------------------------------------------------------------------


def detect(given: Given) -> None:
    """The verdict on a set, and every probe's figure."""
    from ue_audit import detect as detection  # loads numpy, Pillow and torch

    mode = modes(given)
    asked = settings("detect", DetectSettings, given)
    with screen.progress(mode) as progress:
        found = detection.run(asked, progress)
    screen.result(mode, {"command": "detect", **found}, detected.lines(found), place=found["protected"])


def bench(given: Given) -> None:
    """Tables of times, each beside its plain recipe."""
    mode = modes(given)
    asked = settings("bench", BenchSettings, given)
    from ue_audit import bench as measuring  # loads torch

    with screen.progress(mode) as progress:
        document = measuring.run(asked, progress)
    screen.result(mode, {"command": "bench", **document}, *benched.tables(document), place=asked.output or "")


def verify(given: Given) -> None:
    """Problems of each output; exit 4 if there are any."""
    mode, whole = modes(given), given.pop("chain", False)
    lines, found = [], []
    for path in given["outputs"]:
        checked = manifest.verify(path, chain=whole)
        problems = [(problem.path, problem.what) for problem in checked.problems]
        lines += terminal.verification_lines(path, checked.checked, problems)
        listed = [{"path": place, "what": what} for place, what in problems]
        found.append({"output": str(path), "checked": checked.checked, "problems": listed})
    screen.result(mode, {"command": "verify", "outputs": found}, "\n".join(safe(line) for line in lines))
    if any(output["problems"] for output in found):
        raise typer.Exit(4)


def list_names(given: Given) -> None:
    """Methods and presets."""
    mode, kind = modes(given), given.get("kind")
    folders = list(methods.KINDS.values())
    if kind in ("methods", *folders):
        table = examination.method_table(folders if kind == "methods" else [str(kind)])
        screen.result(mode, {"command": "list", **table}, listing.method_lines(table))
        return
    found = examination.catalogue()
    if kind is not None and kind not in found:
        raise UsageError(f"nothing called {kind!r} to list", hint=did_you_mean(kind, [*found, "methods"]))
    found = found if kind is None else {kind: found[kind]}
    screen.result(mode, {"command": "list", **found}, terminal.table(found))


def doctor(given: Given) -> None:
    """What this machine has."""
    mode, found = modes(given), examination.examine()
    screen.result(mode, {"command": "doctor", **found}, terminal.table(found))

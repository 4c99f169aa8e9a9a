"""The registry: a folder of modules is the list of methods, and a contract says what a module must offer.

    kind         folder         entry point                              returns
    protection   protections/   generate(data, config, tools)            delta(rows) -> (B,3,S,S)
    purifier     purifiers/     build(data, config, tools)               purify(batch) -> (B,3,S,S)
    learner      learners/      fit(data, config, tools)                 iterator of Epoch

Every module also has `SOURCE` (paper, arXiv id, algorithm), `Config` (a `config.Config`), `NEEDS` (of "labels",
"encoder", "prior", "own": clean labelled images of the attacker's) and `passes(config, images)`, the forward and
backward passes of a network it spends on each of `images` images; a forward pass alone counts a third. A dotted name
loads a foreign module with the same contract.

A protection also declares `BUDGET` ("linf", "l2", "l0" or "none"). Where its change has no working size, delta also has
`native(row, x)`, the change of one image x (3,H,W) at its own size. `estimate(data, config, tools)`, in seconds, is
optional. A learner is a victim, or a countermeasure: then `counters(config)` names the victim that it hardens. One that
needs weights may have `require(config, tools)`, which raises what is missing before the first training begins.

A purifier may complete its settings: `settle(config, tools) -> config`, before images are read. If what it finds
depends on the budget of the protection, `tools.eps`, `follows_eps(config)` says so. Purifiers are chained by `+`:
`median+jcdp` is a purifier too, with one field of settings for each link.

A purifier, or a learner that hardens another, may say in a phrase what an attacker does with it, for readers who do not
know the field: `IN_WORDS`, "turns the images grey".

What an attacker knows of the protection is told beside its price. A purifier or learner fitted to a protection
declares `KNOWS`, one of KNOWLEDGE; without it, one that follows a known eps knows the budget, any other nothing.
"""

import ast
import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ue_audit.config import Config, did_you_mean, load_preset, nest, overlay, preset_names, resolve
from ue_audit.errors import UsageError

KINDS = {"protection": "protections", "purifier": "purifiers", "learner": "learners"}
ENTRY = {"protection": "generate", "purifier": "build", "learner": "fit"}
STAGE = {"protection": "protect", "purifier": "purify", "learner": "evaluate"}
BUDGETS = ("linf", "l2", "l0", "none")
NEEDS = ("labels", "encoder", "prior", "own")
KNOWLEDGE = ("nothing", "budget", "method")  # of the protection, from little to much


def names(kind: str) -> list[str]:
    """Methods of a kind, by file name; imports none of them."""
    folder = Path(__file__).parent / KINDS[kind]
    return sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """The module of a method, its contract checked; a chain's is made of its links'. Raises UsageError."""
    if "+" in name:
        modules = {field: load(kind, choose(kind, link)[0]) for field, link in links(kind, name).items()}
        chained: ModuleType = importlib.import_module("ue_audit.purifiers._chained").chain(name, modules)
        vars(chained)["KNOWS"] = most_known(*(getattr(link, "KNOWS", KNOWLEDGE[0]) for link in modules.values()))
        return chained
    if "." in name:
        return _checked(_foreign(name), kind, name)
    if name not in names(kind):
        raise UsageError(f"no {kind} named {name!r}", hint=did_you_mean(name, names(kind)))
    return _checked(importlib.import_module(f"ue_audit.{KINDS[kind]}.{name}"), kind, name)


def choose(kind: str, name: str) -> tuple[str, dict[str, object]]:
    """A method's name and the fields its preset sets: `name` is a module, else a preset with a `method:` line.

    A chain keeps its name, and has the fields that its links' presets set, each under its link.
    """
    if "+" in name:
        chosen = {field: choose(kind, link)[1] for field, link in links(kind, name).items()}
        return name, {field: fields for field, fields in chosen.items() if fields}
    if "." in name or name in names(kind):
        return name, {}
    stage = STAGE[kind]
    if name not in preset_names(stage):
        raise UsageError(
            f"no {kind} or preset named {name!r}", hint=did_you_mean(name, [*names(kind), *preset_names(stage)])
        )
    fields = load_preset(stage, name)
    method = str(fields.pop("method"))
    return method, overlay(choose(kind, method)[1], nest(fields)) if "+" in method else fields


def links(kind: str, name: str) -> dict[str, str]:
    """The links of the chain `name`: the field of their settings -> method or preset. Raises UsageError."""
    if kind != "purifier":
        raise UsageError(f"only purifiers can be chained with '+', found the {kind} {name!r}")
    found: dict[str, str] = {}
    for link in name.split("+"):
        field = link.rpartition(".")[2].replace("-", "_")
        if not field:
            raise UsageError(f"expected a purifier on both sides of every '+', found {name!r}")
        if field in found:
            raise UsageError(
                f"the chain {name!r} has two links called {field!r}",
                hint="run the second as a stage of its own, on the output of the first",
            )
        found[field] = link
    return found


class Chosen(NamedTuple):
    """A method ready to run: its name, its module, its resolved configuration and where each value came from."""

    name: str
    module: ModuleType
    config: Any
    origins: dict[str, str]


def configure(kind: str, name: str, layers: Mapping[str, Mapping[str, Any]]) -> Chosen:
    """Load the method or preset `name` and resolve its configuration: default < preset < `layers`, in order."""
    method, fields = choose(kind, name)
    module = load(kind, method)
    config, origins = resolve(module.Config, {"preset": fields, **layers}, f"{kind} {name!r}")
    return Chosen(method, module, config, origins)


def needs(kind: str, name: str) -> set[str]:
    """What the method or preset `name` needs, of NEEDS; a chain what its links need. Imports foreign modules only."""
    method, _ = choose(kind, name)
    if "+" in method:
        return {need for link in links(kind, method).values() for need in needs(kind, link)}
    return set(load(kind, method).NEEDS if "." in method else _declared(kind, method, "NEEDS"))


def in_words(kind: str, name: str) -> list[str]:
    """What an attacker does who takes the method, the preset or the chain `name`, a phrase for each method behind it:
    "turns the images grey". Imports none of them."""
    usual = "treats the images with" if kind == "purifier" else "trains with"
    return [
        _declared(kind, method, "IN_WORDS") or f"{usual} {method}" if method in names(kind) else f"{usual} {method}"
        for method in behind(kind, name)
    ]


def _declared(kind: str, method: str, constant: str) -> Any:
    """The value of a constant of a method's module, which is not imported; None where it has no such constant."""
    tree = ast.parse((Path(__file__).parent / KINDS[kind] / f"{method}.py").read_text(encoding="utf-8"))
    lines = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None]
    found = (line.value for line in lines if ast.unparse(line).partition("=")[0].partition(":")[0].strip() == constant)
    value = next(found, None)
    return None if value is None else ast.literal_eval(value)


def behind(kind: str, name: str) -> list[str]:
    """The methods behind the name of a method, a preset or a chain, in their order; a name that nothing is known of
    stays as it is."""
    found: list[str] = []
    for link in name.split("+"):
        try:
            method, _ = choose(kind, link)
        except UsageError:
            method = link
        found += behind(kind, method) if "+" in method else [method]
    return found

def limit(module: ModuleType, config: Any) -> float:
    """The limit of a protection's budget: `eps` for linf, `l2` (at 32 px) for l2, `pixels` for l0; 0 for none."""
    field = {"linf": "eps", "l2": "l2", "l0": "pixels", "none": None}[module.BUDGET]
    return float(getattr(config, field)) if field else 0.0


def counters(chosen: Chosen) -> str | None:
    """The learner that `chosen` is a hardened form of; None for a victim, which takes the images as they come."""
    found = getattr(chosen.module, "counters", None)
    return None if found is None else found(chosen.config)


def knows(chosen: Chosen, eps: float | None = None) -> str:
    """What an attacker knows of the protection, of KNOWLEDGE; `eps` is the budget that the method was told, if any."""
    follows = getattr(chosen.module, "follows_eps", None)
    told = "budget" if eps is not None and follows is not None and follows(chosen.config) else "nothing"
    return most_known(told, getattr(chosen.module, "KNOWS", "nothing"))


def most_known(*known: str) -> str:
    """The most of several items of KNOWLEDGE; of none, nothing."""
    return max(known, key=KNOWLEDGE.index, default=KNOWLEDGE[0])


def _foreign(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"cannot import the method {name!r}: {error}", hint="is it on PYTHONPATH?") from error


def _checked(module: ModuleType, kind: str, name: str) -> ModuleType:
    config = getattr(module, "Config", None)
    parts = ("SOURCE", "passes", ENTRY[kind])
    missing = [part for part in parts if not hasattr(module, part)]
    if not (isinstance(config, type) and issubclass(config, Config)):
        missing.append("Config")
    if not set(getattr(module, "NEEDS", ("absent",))) <= set(NEEDS):
        missing.append("NEEDS")
    if kind == "protection" and getattr(module, "BUDGET", None) not in BUDGETS:
        missing.append("BUDGET")
    if getattr(module, "KNOWS", KNOWLEDGE[0]) not in KNOWLEDGE:
        missing.append("KNOWS")
    if missing:
        raise UsageError(f"{name!r} is no {kind}: it lacks {', '.join(missing)}")
    return module

"""Every option of the command line, declared once: name, help, panel; and the way from options to settings.

A default shown in the help is read from `settings`, where it is declared.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import typer

from ue_audit import methods
from ue_audit.config import Config, load_preset, load_yaml, parse_set, resolve
from ue_audit.errors import UsageError
from ue_audit.spelling import MODELS

Settings = TypeVar("Settings", bound=Config)

Given = dict[str, Any]
"""What the user gave, by the name of the settings' field; what was not given is absent."""

CHOICE, PLACES, IMAGES, RUNNING, SHOWING = "Choosing", "Places", "Images", "Running", "Showing"


def _shown(value: Any) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


DEFAULT = {
    f"{verb}.{field}": _shown(info.default)
    for verb, model in MODELS.items()
    for field, info in model.model_fields.items()
}


def _argument(kind: Any, metavar: str, text: str) -> Any:
    return Annotated[kind, typer.Argument(metavar=metavar, help=text, show_default=False)]


def _option(panel: str, names: str, kind: Any, text: str, default: str = "") -> Any:
    """`names` ends with what the value is called in the help, unless the option is a flag.

    Numbers stay text here: `settings` checks them all at once, and says what it found.
    """
    flags = [word for word in names.split() if word.startswith("-")]
    metavar = " ".join(word for word in names.split() if not word.startswith("-"))
    text = f"{text} (default: {default})" if default else text
    return Annotated[
        kind, typer.Option(*flags, help=text, rich_help_panel=panel, metavar=metavar, show_default=False)
    ]


TABLE: dict[str, Any] = {
    # arguments
    "images": _argument(Path, "FOLDER", "Class folders with images, or a folder with train/ and test/."),
    "foreign": _argument(Path, "FOLDER", "Images protected by another tool: class folders, or one flat folder."),
    "unsplit": _argument(Path, "SOURCE", "Class folders or a flat folder; or what --from says."),
    "finished": _argument(Path, "FOLDER", "A protected or purified set."),
    "raw": _argument(Path, "RAW", "Unprotected images of the same kind; class folders are ignored."),
    "weights": _argument(Path, "FILE|FOLDER", "Weights of diffusers, ddim or guided-diffusion."),
    "protected": _argument(Path | None, "FOLDER", "Protected images; else the newest output of protect."),
    "folders": _argument(
        list[Path] | None, "FOLDER...", "Protected and purified images; else the newest output of purify."
    ),
    "evaluation": _argument(Path | None, "FOLDER", "An evaluation; else the newest output of evaluate."),
    "shares": _argument(list[Path], "PART...", "What purify --shard made: all parts, or one with others beside it."),
    "audit": _argument(str | None, "[AUDIT]", "An audit file (YAML), or an audit preset unless --preset names it."),
    "source": _argument(Path | None, "FOLDER", "The clean images, if the audit does not name them."),
    "outputs": _argument(list[Path], "OUTPUT...", "Outputs of ue-audit: folders or checkpoints."),
    "kind": _argument(
        str | None, "KIND", "Presets; or protections, purifiers, learners or all methods, with paper, cost and needs."
    ),
    # choosing
    "protection": _option(CHOICE, "--method NAME", str, "Protection or preset.", DEFAULT["protect.method"]),
    "purifier": _option(CHOICE, "--method NAME", str, "Purifier or preset.", DEFAULT["purify.method"]),
    "called": _option(
        CHOICE, "--method NAME", str, "What reports call the protection.", DEFAULT["import.method"]
    ),
    "learners": _option(
        CHOICE, "--learner NAME", list[str], "Learner or preset; repeatable.", DEFAULT["evaluate.learners"]
    ),
    "preset": _option(CHOICE, "--preset NAME", str, "Preset of the prior.", DEFAULT["train-prior.preset"]),
    "audit_preset": _option(CHOICE, "--preset NAME", str, "Audit preset, such as quick; `ue-audit list` has them."),
    "seeds": _option(CHOICE, "--seeds N", str, "Trainings of each set.", DEFAULT["evaluate.seeds"]),
    "max_seeds": _option(CHOICE, "--max-seeds N", str, "Add seeds, up to N, where an interval leaves a verdict open."),
    "trainings": _option(CHOICE, "--seeds N", str, "Trainings behind each accuracy."),
    "set": _option(CHOICE, "--set KEY=VALUE", list[str], "One setting; repeatable."),
    "config": _option(CHOICE, "--config FILE", Path, "Settings from a YAML file."),
    "cross": _option(CHOICE, "--cross", bool, "Countermeasures in training on purified images, too."),
    "no_noise_control": _option(CHOICE, "--no-noise-control", bool, "No clean + random noise; no grade."),
    "quick": _option(CHOICE, "--quick", bool, "One training seed and no grade."),
    "parts": _option(CHOICE, "--part NAME", list[str], "What to measure; repeatable.", "all but frontier and growth"),
    "profile": _option(CHOICE, "--profile STAGE", str, "Instead: the top costs of this stage."),
    "trial": _option(CHOICE, "--quick", bool, "A trial of the bench itself, in a minute; its figures say nothing."),
    "accuracy": _option(CHOICE, "--accuracy", bool, "Train, too: what speed costs in accuracy. Takes long."),
    "ratio": _option(
        CHOICE, "--ratio SHARE", str, "Protect only this share of each class, such as 80%.", DEFAULT["protect.ratio"]
    ),
    "eps": _option(CHOICE, "--eps SHARE", str, "Budget of the protection, such as 8/255.", "found by lineage"),
    "name": _option(CHOICE, "--name NAME", str, "What the report calls this countermeasure.", "the method"),
    "raw_share": _option(CHOICE, "--raw SHARE", str, "For the attacker's prior.", DEFAULT["split.raw_share"]),
    "test_share": _option(CHOICE, "--test SHARE", str, "For testing.", DEFAULT["split.test_share"]),
    "val_share": _option(CHOICE, "--val SHARE", str, "For choosing attackers.", DEFAULT["split.val_share"]),
    "form": _option(
        CHOICE, "--from FORM", str, "What SOURCE is: folder, hf (Hugging Face's image folders and parquet files), or "
        "torchvision's files of cifar10, cifar100, svhn, mnist, fashion-mnist, kmnist, stl10.", DEFAULT["split.form"],
    ),
    "format": _option(CHOICE, "--format NAME", str, "hf (Hugging Face) or croissant.", DEFAULT["export.format"]),
    # places
    "encoder": _option(PLACES, "--encoder FILE", Path, "Pretrained weights, for methods that need an encoder."),
    "prior": _option(PLACES, "--prior FILE", Path, "Diffusion prior of train-prior or import-prior."),
    "start": _option(PLACES, "--from FILE", Path, "Prior to go on from, instead of from scratch."),
    "clean": _option(PLACES, "--clean FOLDER", Path, "Clean originals.", "found by lineage"),
    "originals": _option(PLACES, "--clean FOLDER", Path, "The same images before they were protected."),
    "unprotected": _option(PLACES, "--clean FOLDER", Path, "The clean originals, to measure the change itself."),
    "like": _option(PLACES, "--like FOLDER", Path, "Purify as this protected set would be: for clean images."),
    "test": _option(PLACES, "--test FOLDER", Path, "Clean test images.", "found by lineage"),
    "val": _option(PLACES, "--val FOLDER", Path, "Clean validation images.", "found by lineage"),
    "own": _option(PLACES, "--own FOLDER", Path, "Clean labelled images of the attacker's own."),
    "reuse": _option(PLACES, "--reuse FOLDER", list[Path], "Evaluation whose equal trainings are taken over."),
    "output": _option(PLACES, "-o --output PATH", Path, "Where to write.", "input name + method, here"),
    "whole": _option(PLACES, "-o --output PATH", Path, "Where to write.", "where one process would, beside PART"),
    "table": _option(PLACES, "-o --output FILE", Path, "Write the tables there as Markdown, too."),
    "own_prior": _option(PLACES, "--prior FILE", Path, "Prior to measure with.", "the demo's, trained first"),
    "demo": _option(PLACES, "--demo FOLDER", Path, "A finished demo, whose times are told.", "ue-audit-demo"),
    "keep": _option(PLACES, "--keep FOLDER", Path, "Where what is measured with is kept, for the next bench."),
    "cache": _option(PLACES, "--cache FOLDER", Path, "Where decoded images above 256 MiB are held."),
    # images
    "trained_at": _option(IMAGES, "--size PIXELS", str, "Size it was trained at.", "as the files say or suggest"),
    "size": _option(IMAGES, "--size PIXELS", str, "Working size.", "the images' own"),
    "resize_output": _option(IMAGES, "--resize-output", bool, "Write images of the working size."),
    "limit": _option(IMAGES, "--limit N", str, "Only N images, even over classes: a trial.", "all"),
    "looked_at": _option(
        IMAGES, "--limit N", str, "Look at N images, even over classes.", DEFAULT["detect.limit"]
    ),
    "purified": _option(IMAGES, "--limit N", str, "Purify N images in a run."),
    "on_bad": _option(
        IMAGES, "--on-bad HOW", str, "With unusable images: stop, or skip them.",
        DEFAULT["protect.on_bad"],
    ),
    "max_bad": _option(
        IMAGES, "--max-bad SHARE", str, "Skip at most this share, such as 1%.", DEFAULT["protect.max_bad"]
    ),
    # running
    "seed": _option(RUNNING, "--seed N", str, "Root of all randomness.", DEFAULT["protect.seed"]),
    "device": _option(
        RUNNING, "--device NAME", str, "auto, cpu, cuda, cuda:N or mps.", DEFAULT["protect.device"]
    ),
    "budget": _option(
        RUNNING, "--budget TIME", str,
        "Begin no training that would end later, and no stage when it is over, in all sittings; such as 2h.",
    ),
    "shard": _option(
        RUNNING, "--shard I/N", str, "Only the I-th of N parts, to OUTPUT.shard-I-of-N; `merge` puts them together."
    ),
    "repeats": _option(RUNNING, "--repeats N", str, "Rounds of every comparison."),
    "fresh": _option(RUNNING, "--fresh", bool, "Start over instead of going on."),
    "dry_run": _option(RUNNING, "--dry-run", bool, "Say what would be done, and how long; write nothing."),
    # showing
    "show_config": _option(SHOWING, "--show-config", bool, "Print every setting with its origin, and stop."),
    "no_images": _option(SHOWING, "--no-images", bool, "Leave the images out of the report."),
    "fail_under": _option(SHOWING, "--fail-under SHARE", str, "Exit 1 if survival's lower end is below."),
    "compare": _option(
        SHOWING, "--compare A B", tuple[Path, Path] | None,
        "Two reports or evaluations side by side; written only with -o."
    ),
    "chain": _option(SHOWING, "--chain", bool, "Check everything it was made from, too."),
    "json": _option(SHOWING, "--json", bool, "Print one JSON document instead."),
    "quiet": _option(SHOWING, "-q --quiet", bool, "No messages, and of the result only its place."),
    "verbose": _option(SHOWING, "-v --verbose", bool, "All details, and the traceback of any error."),
}

SHOW = ("json", "quiet", "verbose")
INTAKE = ("limit", "on_bad", "max_bad")
RUN = ("seed", "device", "cache", "output", "fresh", "dry_run", "show_config", *SHOW)
STAGE = ("set", "config", "size", *INTAKE, *RUN)
NEEDED = ("images", "foreign", "originals", "raw", "weights", "outputs", "unsplit", "finished", "shares")
FIELD = {
    "images": "source", "foreign": "source", "protected": "source", "weights": "source", "originals": "clean",
    "trained_at": "size",
    "protection": "method", "purifier": "method", "called": "method", "unprotected": "clean", "looked_at": "limit",
    "unsplit": "source", "finished": "source",
    "parts": "part", "trial": "quick", "table": "output", "whole": "output", "own_prior": "prior", "purified": "limit",
    "trainings": "seeds", "shares": "folders",
}  # fmt: skip
READ = (
    "source", "raw", "start", "folders", "evaluation", "clean", "test", "val", "encoder", "own", "reuse", "like",
    "compare",
)  # fmt: skip
TURNED_OFF = {"no_images": "images", "no_noise_control": "noise_control"}


def takes(*names: str) -> Callable[[Callable[[Given], None]], Callable[..., None]]:
    """Give a command the options called `names`; it is called with those that the user gave."""

    def decorate(body: Callable[[Given], None]) -> Callable[..., None]:
        def command(**values: Any) -> None:
            given = {FIELD.get(name, name): value for name, value in values.items() if _given(value)}
            given.update((TURNED_OFF[name], False) for name in TURNED_OFF if given.pop(name, False))
            body(given)

        command.__signature__ = inspect.Signature([_parameter(name) for name in names])  # type: ignore[attr-defined]
        command.__annotations__ = {name: TABLE[name] for name in names}
        command.__name__ = body.__name__
        command.__doc__ = _with_examples(body.__doc__ or "")
        return command

    return decorate


def _given(value: Any) -> bool:
    return not (value is None or value is False or value == [])


def _with_examples(text: str) -> str:
    """The docstring with its examples first and kept line by line."""
    what, _, examples = inspect.cleandoc(text).partition("\n\n")
    lines = "\n".join(f"  {line}" for line in examples.splitlines())
    return f"\b\n{lines}\n\n{what}"


def _parameter(name: str) -> inspect.Parameter:
    annotation = TABLE[name]
    default: Any = None
    if name in NEEDED:
        default = inspect.Parameter.empty
    elif annotation.__origin__ is bool:
        default = False
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


# -- from options to settings --------------------------------------------------------------------------------


class Modes(NamedTuple):
    """What to show and whether to run at all."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    show_config: bool = False
    dry_run: bool = False


def modes(given: Given) -> Modes:
    """Takes the modes out of what was given."""
    return Modes(*(bool(given.pop(name, False)) for name in Modes._fields))


def settings(stage: str, model: type[Settings], given: Given) -> Settings:
    """The settings of a stage: default < preset < --config < flags. Quick checks only; raises UsageError."""
    if "layers" in model.model_fields:
        layers = {"file": load_yaml(given.pop("config")) if "config" in given else {}}
        layers["flag"] = parse_set(given.pop("set", []))
        if "method" in layers["file"]:
            given.setdefault("method", layers["file"].pop("method"))
        given["layers"] = layers
    made, _ = resolve(model, {"flag": given}, stage)
    for field in READ:
        value = getattr(made, field, None) or ()
        for path in value if isinstance(value, tuple) else (value,):
            if not path.exists():
                raise UsageError(f"{stage}: expected a folder or file, found nothing at {path}")
    _check_names(stage, made)
    return made


def _check_names(stage: str, made: Any) -> None:
    if stage == "train-prior":
        load_preset(stage, made.preset)
    for kind in (kind for kind, verb in methods.STAGE.items() if verb == stage):
        for name in getattr(made, "learners", None) or [made.method]:
            methods.choose(kind, name)

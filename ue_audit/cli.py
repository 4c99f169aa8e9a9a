"""The command line: which commands there are, which options each takes, and how every run ends.

Imports little and never torch, so that help, a wrong option and a locked folder answer at once: what a command does
is in `commands`, imported when one is called.
"""

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import typer

from ue_audit import __version__, failures, ranks
from ue_audit.options import INTAKE, RUN, SHOW, STAGE, Given, takes
from ue_audit.systems import plain_streams

app = typer.Typer(
    help="How much of an image protection survives a determined attacker?  Start with: ue-audit demo",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _command(name: str, *options: str) -> Callable[[Callable[[Given], None]], Callable[..., None]]:
    """Declare a command: its options by name; the first line of its docstring stands in the list of commands."""

    def declare(body: Callable[[Given], None]) -> Callable[..., None]:
        @wraps(body)
        def checked(given: Given) -> None:
            ranks.check(name)
            body(given)

        summary = (body.__doc__ or "").partition("\n")[0]
        command: Callable[..., None] = app.command(name, short_help=summary)(takes(*options)(checked))
        return command

    return declare


def _commands() -> Any:
    from ue_audit import commands

    return commands


@_command(
    "split", "unsplit", "form", "raw_share", "test_share", "val_share", "set", "config", *INTAKE,
    "seed", "output", "fresh", "dry_run", "show_config", *SHOW,
)  # fmt: skip
def split(given: Given) -> None:
    """Make disjoint train/, val/, test/ and raw/ from one set of images: where every audit starts.
    Files are copied byte for byte; the seed and their pixels decide where each goes, class by class. Copies land in one
    part, also resized, compressed and mirrored ones. Parts that the source has already are kept as they are. --set
    image=COLUMN and --set label=COLUMN name the columns of parquet files. Nothing is ever downloaded.

    ue-audit split photos/ -o data
    ue-audit split --raw 40% --test 20% --seed 1 photos/
    ue-audit split --from cifar10 -o cifar10 torchvision/
    ue-audit split --from hf --set label=fine_label cifar100/
    """
    _commands().stage("split", given)


@_command("protect", "images", "protection", "encoder", "ratio", "resize_output", *STAGE)
def protect(given: Given) -> None:
    """Add a protection to images, within its budget.

    ue-audit protect data/
    ue-audit protect --method lsp --set l2=1.0 -o protected data/
    ue-audit protect --method uc --encoder weights.safetensors photos/
    """
    _commands().stage("protect", given)


@_command(
    "import", "foreign", "originals", "called", "set", "config", "size", *INTAKE,
    "cache", "output", "fresh", "dry_run", "show_config", *SHOW,
)  # fmt: skip
def adopt(given: Given) -> None:
    """Bring in images that another tool protected; the rest of the audit runs on them.
    Pairs are found by path: the same class folder and name, whatever the ending; in a flat folder by name alone.
    Pixels are kept exactly and written as lossless PNG. --set eps=8/255, --set l2=1.0 (at 32 px) or --set pixels=1
    says what the other tool was allowed to change: an image that breaks it ends with exit code 4. With --size both
    sets are taken at that size; without it, each protected image must have the size of its original.

    ue-audit import --clean data/train protected/
    ue-audit import --clean data/train --method tap --set eps=8/255 protected/
    """
    _commands().stage("import", given)


@_command("train-prior", "raw", "preset", "start", *STAGE)
def train_prior(given: Given) -> None:
    """Train the attacker's diffusion prior on raw, unprotected images.

    ue-audit train-prior data/raw
    ue-audit train-prior --from other.ckpt -o mine.ckpt data/raw
    """
    _commands().stage("train-prior", given)


@_command(
    "import-prior", "weights", "set", "config", "trained_at", "device", "output", "fresh", "dry_run", "show_config",
    *SHOW,
)  # fmt: skip
def import_prior(given: Given) -> None:
    """Bring in a diffusion model of other code as a prior: diffusers, ddim, guided-diffusion.
    FILE is a checkpoint, a diffusers folder or an entry of a Hugging Face cache, told apart by content. Nothing in it
    is run. What it was trained on is not known, and reports say so. Of guided-diffusion name the heads, and the
    schedule where it is not DDPM's: --set T=4000 --set betas=cosine --set t_scale=0.25.

    ue-audit import-prior models--google--ddpm-cifar10-32
    ue-audit import-prior --set head_channels=64 -o imagenet.prior.ckpt 256x256_diffusion_uncond.pt
    """
    _commands().stage("import-prior", given)


@_command("purify", "protected", "prior", "purifier", "eps", "clean", "like", "name", "shard", *STAGE)
def purify(given: Given) -> None:
    """Play the attacker: take a protection out of images.
    With --shard several GPUs or machines share one set, each with a command of its own.

    ue-audit purify --prior raw.prior.ckpt
    ue-audit purify --prior raw.prior.ckpt --method ddpm data.emn/
    ue-audit purify --prior raw.prior.ckpt --device cuda:1 --shard 2/2 data.emn/
    """
    _commands().stage("purify", given)


@_command("merge", "shares", "whole", "fresh", "dry_run", "show_config", *SHOW)
def merge(given: Given) -> None:
    """Put the parts of `purify --shard` together: byte for byte what one process writes.
    Of one part named, the others are looked for beside it. Files are copied; the parts stay.

    ue-audit merge data.emn.jcdp.shard-*-of-2
    ue-audit merge -o data.emn.jcdp here/data.emn.jcdp.shard-1-of-2 there/data.emn.jcdp.shard-2-of-2
    """
    _commands().stage("merge", given)


@_command(
    "evaluate", "folders", "learners", "seeds", "max_seeds", "cross", "test", "val", "own", "encoder", "clean", "reuse",
    "no_noise_control", "budget", *STAGE,
)  # fmt: skip
def evaluate(given: Given) -> None:
    """Train on clean, protected and purified images; test on clean ones.
    A learner that hardens no other is a victim; those that harden it (`ue-audit list
    learners`) are attacks, beside purification.
    --set KEY=VALUE is for every learner, --set LEARNER.KEY=VALUE for one.

    ue-audit evaluate
    ue-audit evaluate --learner supervised --learner adversarial --learner cutmix
    ue-audit evaluate --seeds 5 --test data/test data/train data.emn data.emn.jcdp
    """
    _commands().stage("evaluate", given)


@_command(
    "report", "evaluation", "output", "no_images", "fail_under", "compare", "fresh", "show_config", "dry_run", *SHOW
)
def report(given: Given) -> None:
    """The verdict: what is left of the protection, and what the cheapest attack costs.

    ue-audit report
    ue-audit report --fail-under 0.4 --json data.eval
    ue-audit report --compare data.report other.eval
    """
    if "compare" in given:
        _commands().compare(given)
    else:
        _commands().stage("report", given)


@_command("export", "finished", "format", "output", "fresh", "show_config", "dry_run", *SHOW)
def export(given: Given) -> None:
    """Write a set for others to load, with a card that says how it was made and names neither host nor user.

    ue-audit export data.emn
    ue-audit export --format croissant -o publish data.emn
    """
    _commands().stage("export", given)


@_command("run", "audit", "source", "audit_preset", "seeds", "max_seeds", "set", "size", "budget", *INTAKE, *RUN)
def run(given: Given) -> None:
    """A whole audit from one file or preset; what is up to date is skipped.
    Without a folder, `quick` takes built-in images. With --budget what matters most is trained first, the report says
    what was left out, and the same command with more time, or without --budget, goes on from there.

    ue-audit run --preset quick
    ue-audit run --preset standard data/ --set source.raw=data/raw --budget 2h
    ue-audit run audit.yaml
    """
    _commands().run(given)


@_command("demo", "quick", "seeds", "set", *RUN)
def demo(given: Given) -> None:
    """An audit of built-in real images, on a CPU, in minutes.

    ue-audit demo
    ue-audit demo --quick -o trial
    """
    _commands().demo(given)


@_command("detect", "images", "unprotected", "size", "looked_at", "on_bad", "max_bad", "seed", "device", *SHOW)
def detect(given: Given) -> None:
    """Is this set protected at all, and by what kind? In seconds, without training.

    ue-audit detect downloaded/
    ue-audit detect --clean data/train --json data.emn
    """
    _commands().detect(given)


@_command("verify", "outputs", "chain", *SHOW)
def verify(given: Given) -> None:
    """Check outputs: hashes, missing and extra files, budgets, lineage.

    ue-audit verify data.emn
    ue-audit verify --chain data.report
    """
    _commands().verify(given)


@_command("list", "kind", *SHOW)
def list_names(given: Given) -> None:
    """Methods and presets, each with one line; or protections, purifiers or learners, with paper, cost and needs.

    ue-audit list
    ue-audit list learners
    ue-audit list methods --json
    """
    _commands().list_names(given)


@_command(
    "bench", "parts", "profile", "trial", "accuracy", "trainings", "own_prior", "demo", "keep", "purified", "repeats",
    "seed", "device", "table", *SHOW,
)  # fmt: skip
def bench(given: Given) -> None:
    """How fast every stage is here, beside plain recipes.
    Parts: start-up, stages, purification, published, training, prior, demo; frontier and growth only when named.

    ue-audit bench -o bench.md
    ue-audit bench --part purification --part frontier --keep material
    ue-audit bench --profile purify
    """
    _commands().bench(given)


@_command("doctor", *SHOW)
def doctor(given: Given) -> None:
    """What this machine has: versions, devices, weights, disk.

    ue-audit doctor
    ue-audit doctor --json
    """
    _commands().doctor(given)


@app.callback(invoke_without_command=True)
def _top(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        typer.echo(f"ue-audit {__version__}")
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code. Every error ends here.

    Of torchrun's processes the first alone writes to stdout, and says that it was interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    plain_streams()
    with failures.signals():
        try:
            return int(app(args=words or ["--help"], prog_name="ue-audit", standalone_mode=False) or 0)
        except BaseException as error:
            failure = failures.explain(error, words)
    if failure.code == "interrupted" and not ranks.leads():
        return failure.exit_code
    from ue_audit import screen

    screen.failed(failure, as_json="--json" in words and ranks.leads(), verbose="-v" in words or "--verbose" in words)
    return failure.exit_code

"""Where words go: results to stdout, messages to stderr; with --json one document on stdout, nothing else."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import RenderableType

from ue_audit.failures import Failure
from ue_audit.options import Modes
from ue_audit.progress import SILENT, Progress
from ue_audit.rendering import terminal
from ue_audit.rendering.text import plain, safe

SCHEMA = "ue-audit/result/1"


@contextlib.contextmanager
def progress(mode: Modes, *, board: bool = False) -> Iterator[Progress]:
    """Bars on a terminal, or the board of a whole audit; lines on a pipe; nothing with -q, and no board with --json."""
    shown = SILENT if mode.quiet or (board and mode.json) else _shown(board)
    try:
        yield shown
    finally:
        shown.close()


def _shown(board: bool) -> Progress:
    err = terminal.console(stderr=True)
    if not err.is_terminal or (board and err.is_dumb_terminal):
        return terminal.LineProgress(err)
    if not board:
        return terminal.LiveProgress(err)
    from ue_audit.rendering.board import Board

    err.soft_wrap = False  # every line fits
    return Board(err)


def say(mode: Modes, text: str) -> None:
    """A message, unless -q."""
    if not mode.quiet:
        terminal.console(stderr=True).print(safe(text))


def result(mode: Modes, document: dict[str, Any], *parts: RenderableType, place: object = None) -> None:
    """What a command came to: a JSON document, with -q the bare place, else `parts` for people (text is markup)."""
    if mode.json:
        _document(document)
    elif mode.quiet and place is not None:
        typer.echo(plain(place))
    else:
        for part in parts:
            terminal.console().print(part, soft_wrap=isinstance(part, str))


def show_config(mode: Modes, resolved: list[tuple[str, Any, dict[str, str]]]) -> None:
    """Every setting and its origin, as YAML that can be read back."""
    sections = {name: config.model_dump(mode="json", exclude={"layers"}) for name, config, _ in resolved}
    origins = {name: origin for name, _, origin in resolved}
    text = terminal.escaped(terminal.settings_yaml(sections, origins))
    result(mode, {"settings": sections, "origins": origins}, text)


def failed(failure: Failure, *, as_json: bool, verbose: bool) -> None:
    """An error: a JSON document, or a message on stderr; the traceback of a bug always, of others with -v."""
    err = terminal.console(stderr=True)
    if failure.traceback and (verbose or failure.bug):
        err.print(terminal.escaped(failure.traceback))
    if as_json:
        _document({"error": failure.document()})
    elif failure.message:
        err.print(terminal.problem(failure.message, failure.hint, failure.details, everything=verbose))


def _document(fields: dict[str, Any]) -> None:
    typer.echo(json.dumps({"schema": SCHEMA, **fields}, indent=2, default=str))

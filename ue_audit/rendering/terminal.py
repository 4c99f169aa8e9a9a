"""What the terminal shows: progress while work goes on, and the closing panel. Knows no console of its own."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from ue_audit.config import show_yaml
from ue_audit.progress import Progress, Stage
from ue_audit.rendering.figures import duration
from ue_audit.rendering.text import safe
from ue_audit.settings import Plan

LINE_EVERY = 10.0  # seconds between the lines on a pipe
DETAILS = 20  # lines of an error's details, unless -v


def console(*, stderr: bool = False) -> Console:
    """A console on which nothing but our own markup has a meaning; obeys NO_COLOR."""
    return Console(stderr=stderr, highlight=False, emoji=False, soft_wrap=True)


def size(n: float) -> str:
    """Bytes for people: 1.5 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}" if unit != "bytes" else f"{n:.0f} bytes"
        n /= 1000
    return f"{n:.3g} TB"


def figure(value: Any) -> str:
    """A number in at most four digits; None is "not measured"; anything else as it is."""
    if value is None:
        return "not measured"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# -- progress ----------------------------------------------------------------------------------------------


class LiveProgress(Progress):
    """Bars on a terminal: done, rate, time left and the figures that matter now."""

    def __init__(self, screen: Console) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("{task.fields[figures]}"),
            console=screen,
        )  # fmt: skip
        self._task: Task | None = None
        self._unit = ""

    def start(self, what: str, total: int, unit: str = "images") -> None:
        self.stop()
        self._unit = unit
        number = self._bars.add_task(safe(what), total=total, rate="", figures="")
        self._task = next(task for task in self._bars.tasks if task.id == number)
        self._bars.start()

    def advance(self, n: int = 1, **figures: float) -> None:
        if self._task is None:
            return
        speed = self._task.finished_speed or self._task.speed
        pace = f"{rate(speed)} {safe(self._unit)}/s" if speed else ""
        text = figures_line(figures) or self._task.fields["figures"]
        self._bars.update(self._task.id, advance=n, rate=pace, figures=text)

    def say(self, text: str) -> None:
        self._bars.console.print(safe(text))

    def stop(self) -> None:
        if self._task is not None:
            self._bars.stop()
            self._bars.remove_task(self._task.id)
            self._task = None


class LineProgress(Progress):
    """One plain line every ten seconds, for a pipe or a log; and of an audit each command as its stage begins."""

    def __init__(self, screen: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._clock = clock
        self._what = ""
        self._stages: list[Stage] = []

    def stages(self, stages: Sequence[Stage]) -> None:
        self._stages = list(stages)

    def stage(self, number: int, state: str) -> None:
        if state == "running":
            self.say(f"[{number + 1}/{len(self._stages)}] {self._stages[number].command}")

    def start(self, what: str, total: int, unit: str = "images") -> None:
        self.stop()
        self._what, self._total, self._unit = what, total, unit
        self._done, self._figures = 0, ""
        self._began = self._last = self._clock()

    def advance(self, n: int = 1, **figures: float) -> None:
        self._done += n
        self._figures = figures_line(figures) or self._figures
        if self._what and self._clock() - self._last >= LINE_EVERY:
            self._last = self._clock()
            self._line(self._ahead())

    def say(self, text: str) -> None:
        self._screen.print(safe(text))

    def stop(self) -> None:
        if self._what:
            self._line(f"in {duration(self._clock() - self._began)}")
        self._what = ""

    def _ahead(self) -> str:
        speed = self._done / max(self._last - self._began, 1e-9)
        left = duration((self._total - self._done) / speed) if speed else "unknown time"
        return f"{rate(speed)} {self._unit}/s, {left} left"

    def _line(self, end: str) -> None:
        parts = [f"{self._what}: {self._done}/{self._total} {self._unit}", end, self._figures]
        self._screen.print(safe(", ".join(part for part in parts if part)))


def rate(speed: float) -> str:
    """Units a second in three digits."""
    return f"{speed:.3g}" if speed < 100 else f"{speed:,.0f}"


def figures_line(figures: Mapping[str, float]) -> str:
    """Names and numbers on one line."""
    return "  ".join(f"{safe(name)} {figure(float(value))}" for name, value in figures.items())


# -- results -----------------------------------------------------------------------------------------------


class Closing(NamedTuple):
    """How a command ends: what was made, the numbers that matter, warnings, the next command to paste."""

    made: str
    numbers: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    next: str = ""


def closing(title: str, end: Closing, *, panel: bool) -> list[RenderableType]:
    """A panel on a terminal, plain lines elsewhere; the next command stands outside, on one line, to be pasted."""
    lines = [f"[bold]{safe(end.made)}[/]" if panel else f"{safe(title)}: {safe(end.made)}"]
    width = max((len(name) for name in end.numbers), default=0)
    lines += [f"  {safe(name.ljust(width))}  {safe(figure(value))}" for name, value in end.numbers.items()]
    lines += [f"[yellow]warning[/]: {safe(text)}" for text in end.warnings]
    body = "\n".join(lines)
    text = Text.from_markup(body, emoji=False)
    shown = Panel(text, title=safe(title), title_align="left", expand=False) if panel else body
    return [shown, f"next: [cyan]{safe(end.next)}[/]"] if end.next else [shown]


def problem(message: str, hint: str, details: Iterable[str], *, everything: bool = False) -> str:
    """An error as markup: what is wrong, where, and what to do."""
    details = list(details)
    shown = details if everything else details[:DETAILS]
    lines = [f"[red]error[/]: {safe(message)}", *(f"  - {safe(line)}" for line in shown)]
    if len(shown) < len(details):
        lines.append(f"  … and {len(details) - len(shown)} more (-v shows all)")
    return "\n".join([*lines, f"  {safe(hint)}"] if hint else lines)


def verification_lines(place: object, checked: int, problems: Sequence[tuple[str, str]]) -> list[str]:
    """What `verify` says of one output."""
    if not problems:
        return [f"{place}: {checked} files checked, all as recorded"]
    shown = [f"  {path}: {what}" for path, what in problems[:DETAILS]]
    more = [f"  … and {len(problems) - DETAILS} more (--json lists all)"] if len(problems) > DETAILS else []
    return [f"{place}: {checked} files checked, {len(problems)} problems", *shown, *more]


def table(sections: Mapping[str, Mapping[str, str]]) -> str:
    """Sections of names and facts as markup."""
    lines = []
    for section, facts in sections.items():
        width = max((len(name) for name in facts), default=0)
        lines.append(f"[bold]{safe(section)}[/]")
        rows = [f"  {safe(name.ljust(width))}  {safe(fact)}".rstrip() for name, fact in facts.items()]
        lines += rows or ["  none"]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Several lines made safe, each a line of its own."""
    return "\n".join(safe(line) for line in text.split("\n"))


def plan_lines(plan: Plan) -> list[str]:
    """What --dry-run says."""
    classes = f" in {plan.classes} classes" if plan.classes else ""
    refused = f", {plan.refused} refused" if plan.refused else ""
    lines = [f"{plan.images} images{classes}{refused}"]
    if plan.shards:
        lines.append(f"{plan.shards} shards")
    lines.append(f"writes about {size(plan.output_bytes)}; {size(plan.free_bytes)} are free")
    if plan.seconds_estimate is not None:
        lines.append(f"takes about {duration(plan.seconds_estimate)}")
    return [*lines, *plan.notes, "nothing was written"]


def settings_yaml(sections: Mapping[str, Any], origins: Mapping[str, Mapping[str, str]]) -> str:
    """Settings as YAML that can be read back, with the origin of each value as a comment."""
    lines = []
    for section, values in sections.items():
        shown = list(_yaml_lines(values, "", 1, origins[section]))
        width = max((len(line) for line, _ in shown), default=0)
        lines += [f"{section}:", *(f"{line.ljust(width)}  {origin}".rstrip() for line, origin in shown)]
    return "\n".join(lines)


def _yaml_lines(
    values: Mapping[str, Any], prefix: str, depth: int, origins: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """(line, origin) of every value; mappings take a line of their own and go one deeper."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield f"{'  ' * depth}{show_yaml(key)}:", ""
            yield from _yaml_lines(value, f"{prefix}{key}.", depth + 1, origins)
        else:
            yield f"{'  ' * depth}{show_yaml(key)}: {show_yaml(value)}", f"# {origins.get(prefix + key, 'default')}"

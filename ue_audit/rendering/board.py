"""A whole audit on the terminal while it runs: its stages, the matrix of accuracies as trainings end, and a bar.

    protect      up to date  2/2
    train-prior  done        1/1  1 min 35 s
    purify       done        3/3  2 min 6 s
    evaluate     running     0/1

    accuracy, %  clean           emn             remn
    none         80.2 78.9 80.2  27.3 28.1 25.5  47.8 49.2 ·
    noise                        79.9 ·    ·     80.4 ·    ·
    jcdp         78.5 ·    ·     71.8 ·    ·     ·    ·    ·

    training  ━━━━━━──────  212/420 epochs, 3.1/s, 1 min 7 s left, accuracy 0.72

Every line fits the terminal: where all seeds of all sets do not, a cell has the mean and how many have ended, then the
mean alone; sets that do not fit even so are counted. What is drawn is erased in the end: results are printed after it.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from ue_audit.progress import Place, Progress, Stage
from ue_audit.rendering.figures import duration
from ue_audit.rendering.terminal import figures_line, rate
from ue_audit.rendering.text import plain, safe

PER_SECOND = 4  # redraws, at most
BAR = 12
NAME = 20  # characters of a name, at most
GAP = 2
ASCII = str.maketrans("━─·…", "#-..")
COLOURS = {"running": "cyan", "done": "green", "up to date": "green", "waiting": "dim"}

Ended = Mapping[Place, float]
Form = Callable[[Sequence[float | None]], str]


class Board(Progress):
    """Draws all that an audit says of itself in one place; lines for the user scroll by above."""

    def __init__(self, screen: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # drawn from a thread of its own
        self._stages: list[Stage] = []
        self._states: list[str] = []
        self._seconds: list[float] = []
        self._places: list[Place] = []
        self._ended: dict[Place, float] = {}
        self._what = ""
        self._live = Live(self, console=screen, refresh_per_second=PER_SECOND, transient=True)

    def stages(self, stages: Sequence[Stage]) -> None:
        with self._lock:
            self._stages = list(stages)
            self._states, self._seconds = ["waiting"] * len(stages), [0.0] * len(stages)
        self._live.start()

    def stage(self, number: int, state: str) -> None:
        with self._lock:
            now = self._clock()
            self._seconds[number] = now if state == "running" else now - self._seconds[number]
            self._states[number] = state

    def matrix(self, places: Sequence[Place]) -> None:
        with self._lock:
            self._places, self._ended = list(places), {}

    def trained(self, place: Place, accuracy: float) -> None:
        with self._lock:
            self._ended[place] = accuracy

    def start(self, what: str, total: int, unit: str = "images") -> None:
        with self._lock:
            self._what, self._total, self._unit = what, total, unit
            self._done, self._figures, self._began = 0, "", self._clock()

    def advance(self, n: int = 1, **figures: float) -> None:
        with self._lock:
            if self._what:
                self._done += n
                self._figures = figures_line(figures) or self._figures

    def say(self, text: str) -> None:
        self._live.console.print(safe(text), soft_wrap=True)

    def stop(self) -> None:
        with self._lock:
            self._what = ""

    def close(self) -> None:
        self.stop()
        self._live.stop()

    # -- drawing -----------------------------------------------------------------------------------------------

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        with self._lock:
            above = [*stage_lines(self._stages, self._states, self._spent())]
            below = [Text(), self._bar()] if self._what else []
            room = max(console.height - len(above) - len(below) - 3, 3)
            table = matrix_lines(self._places, self._ended, width, room) if self._places else []
        lines = [*above, *([Text(), *table] if table else []), *below]
        for line in lines[: console.height - 1]:
            line.truncate(width)
            yield Text(line.plain.translate(ASCII)) if options.ascii_only else line

    def _spent(self) -> list[float]:
        now = self._clock()
        return [now - s if state == "running" else s for s, state in zip(self._seconds, self._states, strict=True)]

    def _bar(self) -> Text:
        share = min(self._done / self._total, 1.0) if self._total else 1.0
        full = round(BAR * share)
        speed = self._done / max(self._clock() - self._began, 1e-9)
        left = duration((self._total - self._done) / speed) if speed else "unknown time"
        parts = [f"{self._done}/{self._total} {self._unit}", f"{rate(speed)}/s", f"{left} left"]
        figures = [self._figures] if self._figures else []
        text = f"{plain(self._what)}  {'━' * full}{'─' * (BAR - full)}  {', '.join([*parts, *figures])}"
        return Text(plain(text), no_wrap=True)


def stage_lines(stages: Sequence[Stage], states: Sequence[str], seconds: Sequence[float]) -> Iterator[Text]:
    """One line for each verb: its state, how many of its outputs there are, the time, and the one in work."""
    for verb in dict.fromkeys(stage.verb for stage in stages):
        own = [i for i, stage in enumerate(stages) if stage.verb == verb]
        found = [states[i] for i in own]
        ended = sum(state in ("done", "up to date") for state in found)
        state = _together(found)
        spent = sum(seconds[i] for i in own if states[i] in ("done", "running"))
        name = next((stages[i].output for i in own if states[i] == "running"), "")
        line = Text(f"{verb:<11}  ", no_wrap=True)
        line.append(f"{state:<10}", COLOURS[state])
        line.append(f"  {ended}/{len(own)}".ljust(7))
        line.append("  ".join(filter(None, ["", duration(spent) if spent else "", plain(name)])))
        line.rstrip()
        yield line


def _together(states: Sequence[str]) -> str:
    """The state of several steps of one stage."""
    if set(states) <= {"done", "up to date"}:
        return "done" if "done" in states else "up to date"
    return "waiting" if set(states) == {"waiting"} else "running"


# -- the matrix ------------------------------------------------------------------------------------------------


def matrix_lines(places: Sequence[Place], ended: Ended, width: int, height: int) -> list[Text]:
    """The matrix in at most `height` lines of at most `width` characters: a row for each countermeasure and learner, a
    column for each protected set; rows that are not complete come before those that are, where not all fit."""
    victim = places[0].learner
    rows: dict[tuple[str, str], dict[str, list[float | None]]] = {}
    for place in sorted(places, key=lambda place: (place.learner != victim, _from_top(place.countermeasure))):
        cells = rows.setdefault((place.countermeasure, place.learner), {})
        cells.setdefault(place.protected, []).append(ended.get(place))
    columns = list(dict.fromkeys(place.protected for place in places))
    names = _short(columns)
    labels = {row: _cut(_attack(*row, victim)) for row in rows}
    first = max(len("accuracy, %"), *(len(label) for label in labels.values()))
    form, widths = _fitting(rows, names, width - first)
    shown = columns[: len(widths)]
    titles = [_cut(names[name], n) for name, n in zip(shown, widths, strict=True)]
    head = Text(_joined("accuracy, %", first, titles, widths))
    head.stylize("bold")
    kept = _most_telling(rows, height - 1)
    lines = [head]
    for row in kept:
        texts = [form(rows[row][name]) if name in rows[row] else "" for name in shown]
        lines.append(Text(_joined(labels[row], first, texts, widths)))
    left = [(len(rows) - len(kept), "rows"), (len(columns) - len(shown), "sets")]
    if more := [f"{count} more {what}" for count, what in left if count]:
        lines.append(Text(f"and {', '.join(more)}", "dim"))
    return lines


def _from_top(countermeasure: str) -> int:
    return {"none": 0, "noise": 1}.get(countermeasure, 2)


def _attack(countermeasure: str, learner: str, victim: str) -> str:
    """What a row is called: as the report names attacks, and of the first learner the countermeasure alone."""
    if learner == victim:
        return countermeasure
    return learner if countermeasure == "none" else f"{countermeasure} + {learner}"


def _short(columns: Sequence[str]) -> dict[str, str]:
    """The sets without the name of the data they all begin with: data.emn, data.remn -> emn, remn."""
    heads = {name.partition(".")[0] for name in columns if name != "clean"}
    cut = len(heads) == 1 and all("." in name for name in columns if name != "clean")
    return {name: plain(name.partition(".")[2] if cut and name != "clean" else name) for name in columns}


def _most_telling(
    rows: Mapping[tuple[str, str], Mapping[str, Sequence[float | None]]], height: int
) -> list[tuple[str, str]]:
    if len(rows) <= height:
        return list(rows)
    complete = {row: all(None not in found for found in cells.values()) for row, cells in rows.items()}
    return sorted(rows, key=lambda row: complete[row])[: max(height - 1, 1)]


def _fitting(
    rows: Mapping[tuple[str, str], Mapping[str, list[float | None]]], names: Mapping[str, str], room: int
) -> tuple[Form, list[int]]:
    """The fullest form in which all columns fit, and their widths; of the briefest, as many columns as fit."""
    for form in (_seeds, _count, _mean):
        cells = {column: [form(row[column]) for row in rows.values() if column in row] for column in names}
        for longest in (NAME, 6):
            widths = [max(min(len(names[c]), longest), *(len(text) for text in cells[c])) for c in names]
            if sum(widths) + GAP * len(widths) <= room:
                return form, widths
    while widths and sum(widths) + GAP * len(widths) > room:
        widths.pop()
    return _mean, widths


def _seeds(found: Sequence[float | None]) -> str:
    return " ".join(_percent(value) for value in found)


def _count(found: Sequence[float | None]) -> str:
    return f"{_mean(found, 1)} {len(_there(found))}/{len(found)}"


def _mean(found: Sequence[float | None], digits: int = 0) -> str:
    there = _there(found)
    return f"{100 * sum(there) / len(there):.{digits}f}".ljust(2 + 2 * digits) if there else "·".ljust(2 + 2 * digits)


def _there(found: Sequence[float | None]) -> list[float]:
    return [value for value in found if value is not None]


def _percent(value: float | None) -> str:
    return "·   " if value is None else f"{100 * value:.1f}".ljust(4)


def _cut(name: str, width: int = NAME) -> str:
    name = plain(name)
    return name if len(name) <= width else f"{name[: width - 1]}…"


def _joined(label: str, first: int, texts: Sequence[str], widths: Sequence[int]) -> str:
    cells = (text.ljust(width) for text, width in zip(texts, widths, strict=True))
    return (" " * GAP).join([label.ljust(first), *cells]).rstrip()

"""The board of a running audit: it fits, it fills, it is erased; and nothing of a name acts on the terminal."""

import io
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import ue_audit
from ue_audit.progress import Place, Stage
from ue_audit.rendering import board
from ue_audit.rendering.board import Board, matrix_lines, stage_lines

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def places(sets, countermeasures, learners=("supervised",), seeds=3):
    """As an evaluation has them: noise for protected sets, hardened learners on sets that nothing was done to."""
    return [
        Place(name, row, learner, f"{name} {row}", seed)
        for seed in range(seeds)
        for learner in learners
        for name in ("clean", *sets)
        for row in ("none", *(["noise"] if name != "clean" else []), *countermeasures)
        if learner == learners[0] or row == "none"
    ]


def drawn(found, ended, width=80, height=40):
    return [line.plain for line in matrix_lines(found, ended, width, height)]


def test_every_seed_stands_where_it_belongs():
    found = places(["data.emn", "data.remn"], ["jcdp"], ["supervised", "coin"], seeds=2)
    ended = {
        Place("clean", "none", "supervised", "clean none", 0): 0.802,
        Place("data.emn", "jcdp", "supervised", "data.emn jcdp", 1): 0.718,
        Place("data.remn", "none", "coin", "data.remn none", 0): 0.4831,
    }
    assert drawn(found, ended) == [
        "accuracy, %  clean      emn        remn",
        "none         80.2 ·     ·    ·     ·    ·",
        "noise                   ·    ·     ·    ·",
        "jcdp         ·    ·     ·    71.8  ·    ·",
        "coin         ·    ·     ·    ·     48.3 ·",
    ]


def test_cells_with_more_seeds_than_others_have_room():
    more = [Place("data.emn", "jcdp", "supervised", "data.emn jcdp", seed) for seed in (3, 4)]
    found = [*places(["data.emn"], ["jcdp"]), *more]
    ended = {p: 0.5 for p in found if p.seed != 4}
    assert [line.split()[1:] for line in drawn(found, ended)[1:]] == [
        ["50.0"] * 6, ["50.0"] * 3, ["50.0"] * 7 + ["·"]
    ]  # fmt: skip
    assert "50.0 4/5" in drawn(found, ended, 44)[-1]


def test_a_purifier_with_several_seeds_shares_its_cell():
    found = [Place("data.emn", "jcdp", "supervised", folder, 0) for folder in ("data.emn.jcdp", "data.emn.jcdp.s1")]
    assert drawn(found, {found[1]: 0.5})[1].split() == ["jcdp", "·", "50.0"]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("count", [1, 3, 6, 20])
def test_it_fits(width, count):
    sets = [f"data.protection-{n}" for n in range(count)]
    found = places(sets, ["jcdp", "a-countermeasure-of-a-very-long-name"], ["supervised", "adversarial"])
    lines = drawn(found, dict.fromkeys(found[::2], 1.0), width)
    assert all(len(line) <= width for line in lines)
    hidden = re.search(r"and (\d+) more sets", lines[-1])
    assert hidden is None or int(hidden[1]) < count


def test_means_take_the_place_of_seeds_where_these_do_not_fit():
    sets = [f"data.m{n}" for n in range(5)]
    found = places(sets, ["jcdp"])
    ended = {p: 0.2 + 0.1 * p.seed for p in found if p.seed < 2 and p.countermeasure == "none"}
    assert drawn(found, ended, 80)[1].split() == ["none", *["25.0", "2/3"] * 6]
    assert drawn(found, ended, 56)[1].split() == ["none", *["25"] * 6]


def test_rows_in_work_come_before_complete_ones_where_not_all_fit():
    found = places(["data.emn"], [f"p{n}" for n in range(8)], seeds=1)
    ended = {p: 0.5 for p in found if p.countermeasure not in ("p6", "p7")}
    lines = drawn(found, ended, height=6)
    assert len(lines) == 6 and [line.split()[0] for line in lines[1:4]] == ["p6", "p7", "none"]
    assert lines[-1] == "and 6 more rows"


def test_one_line_for_each_verb():
    stages = [("protect", "data.emn"), ("purify", "data.emn.jcdp"), ("purify", "data.jcdp"), ("report", "data.report")]
    states = ["up to date", "done", "running", "waiting"]
    lines = stage_lines([Stage(*names, "") for names in stages], states, [0.0, 60.0, 5.0, 0.0])
    assert [line.plain for line in lines] == [
        "protect      up to date  1/1",
        "purify       running     1/2  1 min 5 s  data.jcdp",
        "report       waiting     0/1",
    ]


# -- on a terminal -----------------------------------------------------------------------------------------


def screen(width=80, height=24):
    out = io.StringIO()
    return Console(file=out, force_terminal=True, width=width, height=height, color_system=None), out


def test_what_is_drawn_is_erased_and_lines_stay():
    console, out = screen()
    now = iter(range(100))
    shown = Board(console, clock=lambda: next(now))
    shown.stages([Stage("evaluate", "data.eval", "")])
    shown.stage(0, "running")
    shown.matrix(places(["data.emn"], ["jcdp"]))
    shown.start("training", 12, "epochs")
    shown.advance(6, accuracy=0.5)
    shown.trained(places(["data.emn"], ["jcdp"])[0], 0.81)
    shown.say("a line for the user")
    shown.stage(0, "done")
    shown.close()
    text = ESCAPE.sub("", out.getvalue())
    for part in ("evaluate", "accuracy, %", "81.0", "6/12 epochs", "accuracy 0.5", "a line for the user"):
        assert part in text
    assert out.getvalue().rstrip().endswith("\x1b[2K")  # the last thing done is erasing


@pytest.mark.parametrize("height", [6, 10, 24])
def test_a_low_terminal_is_not_scrolled(height):
    console, _ = screen(40, height)
    shown = Board(console)
    shown.stages([Stage(verb, verb, verb) for verb in ("protect", "train-prior", "purify", "evaluate", "report")])
    shown.matrix(places([f"data.p{n}" for n in range(9)], [f"c{n}" for n in range(30)]))
    shown.start("training", 100, "epochs")
    lines = console.render_lines(shown)
    shown.close()
    assert len(lines) < height and all(sum(s.cell_length for s in line) <= 40 for line in lines)


@pytest.mark.parametrize("name", ["\x1b[31mx", "a\nb", "[red]x[/]", "\u202egnp.exe", "漢字" * 30])
def test_names_are_inert(name):
    console, out = screen()
    shown = Board(console)
    shown.stages([Stage("protect", name, name)])
    shown.stage(0, "running")
    shown.matrix([Place(name, name, name, name, 0)])
    shown.start(name, 3, name)
    shown.advance(1)
    shown.say(name)
    lines = console.render_lines(shown)
    shown.close()
    assert "\x1b[31m" not in out.getvalue() and "\u202e" not in out.getvalue()
    assert all(sum(s.cell_length for s in line) <= 80 for line in lines)


def test_it_is_redrawn_four_times_a_second_at_most():
    assert Board(screen()[0])._live.refresh_per_second <= 4 and board.PER_SECOND <= 4


SCRIPT = """
import sys, time
from ue_audit import chain, cli, commands
from ue_audit.progress import Place, Stage
def run(steps, progress, budget=None):
    progress.stages([Stage("evaluate", "data.eval", "")])
    progress.stage(0, "running")
    progress.matrix([Place("clean", "none", "supervised", "data", 0)])
    progress.start("training", 100, "epochs")
    for _ in range(100):
        time.sleep(0.1)
        progress.advance(1)
chain.run = run
chain.steps = lambda asked, folder: []
sys.exit(cli.main(["run", "quick", "data"]))
"""


@pytest.mark.skipif(os.name != "posix", reason="a pseudo terminal")
def test_interrupted_it_leaves_a_clean_screen_and_the_line_that_goes_on():
    """A real SIGINT to a real process on a pseudo terminal: what is left is replayed line by line."""
    ours, theirs = pty.openpty()
    terminal = {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    env = os.environ | terminal | {"PYTHONPATH": str(Path(ue_audit.__file__).parents[1])}
    run = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    text = ""
    while "accuracy, %" not in text:
        text += _read(ours)
    run.send_signal(2)
    while (more := _read(ours)) or run.poll() is None:
        text += more
    os.close(ours)
    assert run.wait() == 130
    left = [line for line in replayed(text) if line.strip()]
    assert left == ["error: interrupted; what was finished is kept", "  go on with: ue-audit run quick data"]
    assert text.count("\x1b[?25h") >= text.count("\x1b[?25l")  # the cursor is shown again


def _read(fd):
    ready, _, _ = select.select([fd], [], [], 20)
    try:
        return os.read(fd, 65536).decode(errors="replace") if ready else ""
    except OSError:  # the other side is closed
        return ""


def replayed(text):
    """What a terminal shows after this output: lines, carriage returns, cursor up, erased lines."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|[^\x1b]", text):
        if part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r":
            column = 0
        elif re.fullmatch(r"\x1b\[\d*A", part):
            row = max(row - int(part[2:-1] or 1), 0)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + 1 :]
            column += 1
    return lines

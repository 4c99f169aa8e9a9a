"""Progress on a terminal and on a pipe, the closing panel, errors; sizes for people."""

import io
import re

import pytest
import yaml
from rich.console import Console, RenderableType

from ue_audit.progress import Place, Stage
from ue_audit.rendering import terminal
from ue_audit.rendering.terminal import Closing, LineProgress, LiveProgress
from ue_audit.settings import Plan

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def pipe() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=False, width=200, highlight=False, emoji=False, soft_wrap=True), out


def screen() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=True, width=200, highlight=False, emoji=False, color_system=None), out


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# -- a pipe ------------------------------------------------------------------------------------------------


def test_one_line_every_ten_seconds() -> None:
    """4 images a second for 25 s: lines at 10 and 20 s, and one at the end."""
    console, out = pipe()
    clock = Clock()
    progress = LineProgress(console, clock)
    progress.start("purifying", 200)
    for _ in range(25):
        clock.now += 1.0
        progress.advance(4, psnr=25.5)
    progress.stop()
    assert out.getvalue().splitlines() == [
        "purifying: 40/200 images, 4 images/s, 40 s left, psnr 25.5",
        "purifying: 80/200 images, 4 images/s, 30 s left, psnr 25.5",
        "purifying: 100/200 images, in 25 s, psnr 25.5",
    ]


def test_a_new_bar_ends_the_one_before_and_stopping_twice_is_harmless() -> None:
    console, out = pipe()
    progress = LineProgress(console, Clock())
    progress.start("one", 2, "epochs")
    progress.start("two", 2)
    progress.stop()
    progress.stop()
    assert [line.split(":")[0] for line in out.getvalue().splitlines()] == ["one", "two"]
    progress.advance(1)


def test_of_an_audit_each_command_is_a_line_and_no_more() -> None:
    console, out = pipe()
    progress = LineProgress(console, Clock())
    progress.stages([Stage("protect", "data.emn", "ue-audit protect data"), Stage("report", "r", "ue-audit report")])
    for number, state in ((0, "running"), (0, "done"), (1, "running"), (1, "up to date")):
        progress.stage(number, state)
    place = Place("clean", "none", "supervised", "data", 0)
    progress.matrix([place])
    progress.trained(place, 0.5)
    progress.close()
    assert out.getvalue().splitlines() == ["[1/2] ue-audit protect data", "[2/2] ue-audit report"]


def test_nothing_done_yet_divides_by_nothing() -> None:
    console, out = pipe()
    clock = Clock()
    progress = LineProgress(console, clock)
    progress.start("slow", 5)
    clock.now = 11
    progress.advance(0)
    assert "unknown time left" in out.getvalue()


# -- a terminal --------------------------------------------------------------------------------------------


def test_bars_show_count_and_figures() -> None:
    console, out = screen()
    progress = LiveProgress(console)
    progress.start("training", 4, "epochs")
    progress.advance(3, loss=0.25, accuracy=0.875)
    progress.say("a line above the bar")
    progress.stop()
    shown = ESCAPE.sub("", out.getvalue())
    for part in ("training", "3/4", "loss 0.25", "accuracy 0.875", "a line above the bar"):
        assert part in shown


def test_bars_can_follow_each_other_and_stop_without_a_start() -> None:
    console, _ = screen()
    progress = LiveProgress(console)
    progress.stop()
    progress.advance(1)
    for what in ("one", "two"):
        progress.start(what, 1)
        progress.advance(1)
    progress.stop()


@pytest.mark.parametrize("name", ["[/nope]", "[red]x", "\x1b[31mx", "a\nb", ":smile:"])
def test_names_in_progress_are_inert(name: str) -> None:
    for make, kind in ((pipe, LineProgress), (screen, LiveProgress)):
        console, out = make()
        progress = kind(console)
        progress.start(name, 2, name)
        progress.advance(1, **{name: 1.0})
        progress.say(name)
        progress.stop()
        shown = ESCAPE.sub("", out.getvalue()) if kind is LiveProgress else out.getvalue()
        assert "\x1b[31m" not in out.getvalue()
        assert name.replace("\x1b", "\\x1b").replace("\n", "\\n") in shown


# -- results -----------------------------------------------------------------------------------------------


def rendered(*renderables: RenderableType) -> str:
    console, out = pipe()
    for part in renderables:
        console.print(part)
    return out.getvalue()


def test_closing_says_the_same_in_both_forms() -> None:
    end = Closing(
        "data.emn", {"images": 2000, "mean PSNR (dB)": 31.44567, "lpips": None}, ("careful",), "ue-audit purify"
    )
    parts = ("data.emn", "images          2000", "31.45", "not measured", "warning: careful", "next: ue-audit purify")
    for panel in (True, False):
        shown = rendered(*terminal.closing("protect", end, panel=panel))
        assert all(part in shown for part in parts), shown


def test_a_long_command_stays_on_one_line() -> None:
    command = "ue-audit evaluate " + "a-long-folder/" * 30
    assert command in rendered(*terminal.closing("purify", Closing("x", {}, (), command), panel=False))


def test_plan_lines() -> None:
    plan = Plan(
        images=2000, classes=4, refused=3, shards=4, output_bytes=6_144_000, free_bytes=5_000_000_000,
        seconds_estimate=3905, notes=("method emn",),
    )  # fmt: skip
    assert terminal.plan_lines(plan) == [
        "2000 images in 4 classes, 3 refused",
        "4 shards",
        "writes about 6.14 MB; 5 GB are free",
        "takes about 1 h 5 min",
        "method emn",
        "nothing was written",
    ]


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (1_500_000, "1.5 MB"), (2e9, "2 GB"), (3e15, "3e+03 TB")],
)
def test_size(n: float, text: str) -> None:
    assert terminal.size(n) == text


def test_settings_yaml_reads_back() -> None:
    sections = {
        "settings": {"device": "auto", "a": {"b": [1, "x: y"], "c": {}}, "d": None, "e": "no"},
        "method": {"eps": "8/255"},
    }
    text = terminal.settings_yaml(sections, {"settings": {"a.b": "flag"}, "method": {"eps": "preset"}})
    assert yaml.safe_load(text) == sections
    assert re.search(r"^    b: .* +# flag$", text, re.M) and re.search(r"^  eps: 8/255 +# preset$", text, re.M)


def test_table_and_verification() -> None:
    assert rendered(terminal.table({"a": {"x": "1"}, "b": {}})).splitlines() == ["a", "  x  1", "b", "  none"]
    problems = [(f"{n}.png", "changed") for n in range(25)]
    lines = terminal.verification_lines("data.emn", 30, problems)
    assert lines[0] == "data.emn: 30 files checked, 25 problems" and len(lines) == 22 and "5 more" in lines[-1]
    assert terminal.verification_lines("data.emn", 30, []) == ["data.emn: 30 files checked, all as recorded"]


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = terminal.console()
    with console.capture() as captured:
        console.print("[red]error[/]")
    assert "\x1b[31m" not in captured.get()

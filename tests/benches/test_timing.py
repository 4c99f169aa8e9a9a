"""Contenders take turns, backwards in every second round, and what warms them up is not timed."""

import time

import torch

from ue_audit.benches.timing import Contender, interleaved, timed

CPU = torch.device("cpu")


def test_contenders_take_turns() -> None:
    said: list[str] = []
    contenders = {name: Contender(lambda name=name: said.append(name), 5) for name in "abc"}
    found = interleaved(contenders, 3, CPU)
    assert "".join(said) == "abc" + "abc" + "cba" + "abc"
    assert {name: len(measured.seconds) for name, measured in found.items()} == {"a": 3, "b": 3, "c": 3}
    assert found["a"].images == 5


def test_warming_up_is_not_timed() -> None:
    warm: list[float] = []
    slow = Contender(lambda: "done", warm=lambda: warm.append(time.sleep(0.2) or 1.0))
    found = interleaved({"x": slow}, 2, CPU)["x"]
    assert warm == [1.0] and max(found.seconds) < 0.1 and found.result == "done"


def test_seconds_are_those_of_the_run() -> None:
    seconds, result = timed(lambda: time.sleep(0.05) or 7, CPU)
    assert 0.05 <= seconds < 2 and result == 7

"""What a search will cost: the fastest of a few timed gradients, per image."""

import torch
from toy import Toy

from ue_audit.tools import Tools
from ue_audit.training import cost


def test_the_fastest_timing_counts_per_image_and_the_first_does_not(monkeypatch):
    # clock readings in pairs: a warm-up of 9 s, then 4, 2 and 3 s for 48 images
    readings = iter([0.0, 9.0, 10.0, 14.0, 20.0, 22.0, 30.0, 33.0])
    monkeypatch.setattr(cost.time, "monotonic", lambda: next(readings))
    assert cost.seconds_per_pass(Toy(), "small", lambda x, _: x, Tools()) == 2.0 / 48


def test_the_view_is_part_of_it():
    seen = []

    def view(x, generator):
        seen.append(torch.rand(1, generator=generator))
        return x

    assert cost.seconds_per_pass(Toy(), "small", view, Tools()) > 0
    assert len(seen) == 1 + cost.TIMINGS

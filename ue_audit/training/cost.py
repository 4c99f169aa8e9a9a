"""What a search will cost, from a timed gradient."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ue_audit.tools import Tools
from ue_audit.training import backbones, fit, pgd

FORWARD = 1 / 3  # of a forward and backward pass
TIMED_IMAGES = 64
TIMINGS = 3  # of which the fastest counts: the others met other work of the machine


def seconds_per_pass(
    data: Any, network: str, view: Callable[[Tensor, torch.Generator], Tensor], tools: Tools
) -> float:
    """One forward and backward pass of an image, looked at as `view` does."""
    x = data.batch(torch.arange(min(TIMED_IMAGES, len(data)))).to(tools.device)
    model = backbones.build(network, max(2, len(data.classes)), 0).to(tools.device).eval().requires_grad_(False)
    y = torch.zeros(len(x), dtype=torch.long, device=tools.device)
    gradient = pgd.pixel_gradient(lambda u: fit.loss_of(model, view(u, tools.generator("timing")), y))
    seconds = []
    for _ in range(1 + TIMINGS):  # the first sets the kernels up
        start = time.monotonic()
        gradient(x).cpu()
        seconds.append(time.monotonic() - start)
    return min(seconds[1:]) / len(x)

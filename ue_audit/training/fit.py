"""The training loop that learners and surrogates share: one step, one schedule, one precision, resumable anywhere.

Batches, views and initial weights come from generators named by epoch and step, so that nothing but (data, recipe,
seed) decides a result, and a training continues from any step.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ue_audit.config import Config
from ue_audit.imagedata import ImageData
from ue_audit.tools import Tools
from ue_audit.training import augment

Schedule = Literal["one-cycle", "cosine", "step", "constant"]
RESIDENT = 1 / 4  # of a GPU's free memory: as much may be taken by the images of a training
COPIED = 4096  # images at a time on their way there
MILESTONES = (0.35, 0.6, 0.875)  # of the steps, after each of which "step" divides the rate by 10
Generators = Callable[..., torch.Generator]  # names -> a private generator


class Recipe(Config):
    """How a classifier is trained: SGD with Nesterov momentum on cross-entropy, no smoothing, no weight average."""

    epochs: int = Field(ge=1)
    batch: int = Field(ge=2)
    lr: float = Field(gt=0)
    schedule: Schedule = "one-cycle"
    warmup: float = Field(0.2, gt=0, lt=1)  # share of the steps over which one-cycle climbs
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    crop: float = Field(0.125, ge=0, le=0.5)  # random crop from padding by this share of the side; 0 = none
    flip: bool = True


def rate(step: int, steps: int, recipe: Recipe) -> float:
    """Learning rate of `step` (from 0) of `steps`: one-cycle climbs linearly to `lr`, then falls linearly to 0."""
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "cosine":
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
    if recipe.schedule == "step":
        return recipe.lr * 0.1 ** sum(step >= share * steps for share in MILESTONES)
    top = recipe.warmup * steps
    return recipe.lr * min((step + 1) / top, (steps - step) / (steps - top), 1.0)


def precision(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 autocast where the chip multiplies it in hardware (CUDA, AMX); float32 elsewhere.

    AVX512-BF16 alone is not enough: without AMX, oneDNN's bf16 convolutions ran at 0.6 of float32's speed.
    """
    fast = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_amx_tile_supported())
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of x (B,3,S,S) in [0,1]; y (B,) are classes, (B,K) their shares."""
    with precision(x.device):
        logits = model(x.contiguous(memory_format=torch.channels_last))
    return F.cross_entropy(logits.float(), y)


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Evaluation-mode logits (B,K) float32, without gradients."""
    model.eval()
    with torch.no_grad(), precision(x.device):
        return model(x.contiguous(memory_format=torch.channels_last)).float()  # type: ignore[no-any-return]


def freeze(model: nn.Module, frozen: bool = True) -> nn.Module:
    """Evaluation mode without weight gradients: training-mode batch norm would couple the images of a batch."""
    return model.train(not frozen).requires_grad_(not frozen)


def sgd(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """Nesterov SGD with weight decay on every weight, as in the field's protocols."""
    return torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
    )


def resume(tools: Tools, name: str, model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any] | None:
    """The state saved as `name`, its weights and momenta put back; None at a first start."""
    saved = tools.restore(name)
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
    return saved


def batches(n: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """A shuffled pass over n rows; what is left over from whole batches waits for the next pass."""
    order = torch.randperm(n, generator=generator)
    batch = min(batch, n)
    yield from torch.split(order[: n - n % batch], batch)


def train_step(
    model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor, clip: float | None = None
) -> float:
    """One step in training mode on a batch; returns its loss. `clip` bounds the norm of the gradient."""
    model.train()
    loss = loss_of(model, x, y)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimiser.step()
    return float(loss.detach())


def seen(x: Tensor, recipe: Recipe, generator: torch.Generator, mirror: Tensor | None = None) -> Tensor:
    """x as training sees it: each image cropped and mirrored by its own draw, or mirrored where `mirror` (B,) says."""
    pad = round(recipe.crop * x.shape[-1])
    if not pad and not recipe.flip:
        return x
    views = augment.draw_views(len(x), pad, recipe.flip, generator)
    return augment.view(x, views if mirror is None else views._replace(mirror=mirror), pad)


def resident(data: Any, device: torch.device) -> Callable[[Tensor], Tensor]:
    """rows -> `data.batch(rows)` on the device, bit by bit.

    Images that fit a GPU are copied there once, as they are stored, and become floats there. On the CPU nothing
    changes: the images already lie in the memory that the network reads.
    """
    if device.type == "cuda" and isinstance(data, ImageData):
        free, _ = torch.cuda.mem_get_info(device)
        if data.pixels.nbytes <= RESIDENT * free:
            return hold(data.pixels, device)
    return lambda rows: data.batch(rows).to(device)


def hold(pixels: np.ndarray, device: torch.device) -> Callable[[Tensor], Tensor]:
    """rows -> (B,3,S,S) float32 in [0,1] of `pixels` (N,S,S,3) uint8, which are copied to the device."""
    held = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(pixels), COPIED):
        held[start : start + COPIED] = torch.tensor(pixels[start : start + COPIED])
    shades = (torch.arange(256).float() / 255).to(device)  # CUDA would multiply by 1 / 255, to other bits
    return lambda rows: shades[held[rows.to(device)].int()].permute(0, 3, 1, 2).contiguous()

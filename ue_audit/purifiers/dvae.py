"""D-VAE: code images so tightly that there is no room for the shortcut, and learn apart from them what a class adds.

An autoencoder describes an image x^ by a code z of limited rate, and a perturbation p by z and the class:

    min  MSE(x^, x) + MSE(clip(x^ + p), x) + w max(KL, kd) + max(MSE(p, 0), p_limit)     the last not from the start

    stage 1   fitted to x_ue at a small rate kd:   x_1 = clip(x_ue - p_1), in whole levels
    stage 2   fitted to x_1 at a larger rate:      x_le = x^_2 of clip(x_1 - p_2)

What foretells the class and is cheap to say goes into p; what is faint and costly to say is lost in x^_2. Needs the
labels, and no unprotected image: it is what an attacker can do who has nothing but the protected set.

    network   linear: maps of patches and a p of each class, whose optimum is known in closed form and found in seconds
              (`training/linear_vae.py`). resnet: the published kind (`training/vae.py`), trained step by step; by
              default a small one for laptops, as published in preset `dvae-paper`.

Differs from the authors' code: `code: mean` purifies with mu, not with a draw; levels are rounded, not cut off. Where
the paper leaves it open, as in their commands: p comes from z (their flag `use_y` turns the features before it off),
the class's embedding is as large as z, p_2 is taken off before the last coding. The linear p needs no p_limit.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ue_audit.diffusion.noise import Stream
from ue_audit.errors import UsageError
from ue_audit.imagedata import to_float, to_uint8
from ue_audit.tools import Batch, Tools, substream
from ue_audit.training import fit, linear_vae, minmin, vae
from ue_audit.training.cost import FORWARD
from ue_audit.training.rows import in_order

SOURCE = "Yu et al., Purify Unlearnable Examples via Rate-Constrained Variational Autoencoders, arXiv 2405.01460"
IN_WORDS = "squeezes the images through a narrow network that keeps what they show and drops the rest"
NEEDS = ("labels",)
SAVE_SECONDS = 60.0
CODE_BATCH = 128  # images coded together when stage 1 is applied to all

Coder = Callable[[Tensor, Batch, int], tuple[Tensor, Tensor]]  # x on the device, whose, which draw -> x^ and p


class Config(vae.Shape):
    """Defaults: what undoes the most in seconds. A larger second rate keeps sample-wise noise.

    4 x 500 images of CIFAR-10, `small`, 15 epochs, test accuracy, n = 1 each (1,000 images: +-3 points): OPS 68.6 %,
    EMN 63.7 %, EMN class-wise 64.6 %, LSP 70.1 %, and 67.4 % is the ceiling, the same done to clean images; 1 s on one
    core of a 2-core x86 CPU. Rates 1 and 6: OPS 69.6 %, EMN 35.6 %. `network=resnet`: OPS 70.9 %, in 194 s of a core
    shared with others; its EMN and its ceiling are unmeasured. Settings chosen on other images; 32 px only.
    """

    network: Literal["linear", "resnet"] = "linear"
    rates: tuple[float, float] = (1.0, 3.0)  # kd of the stages: nats per four pixels
    patch: int = Field(4, ge=1)  # of linear: side in pixels
    width: int = Field(16, ge=2)  # of resnet, as all below
    blocks: int = Field(0, ge=0)
    latent: int = Field(32, ge=1)
    norm: Literal["instance", "none"] = "none"
    epochs: int = Field(10, ge=1)  # passes over the images in each stage
    min_steps: int = Field(1500, ge=0)  # a small set is passed more often than `epochs`, up to this many steps
    batch: int = Field(32, ge=2)
    lr: float = Field(5e-3, gt=0)  # of Adam, falling along half a cosine
    clip: float = Field(5.0, gt=0)  # the largest norm of a gradient
    rate_weights: tuple[float, float] = (0.01, 0.5)  # w of the stages
    p_limit: float = Field(0.002, ge=0)  # mean square of p up to which it costs nothing
    p_free: float = Field(11 / 60, ge=0, le=1)  # share of the steps in which p costs nothing
    code: Literal["mean", "sample"] = "mean"  # z of images that are purified


def passes(config: Config, images: int) -> float:
    """Those of resnet: two trainings, and four codings of each image. The linear network takes none."""
    seen = _steps(images, config) * min(config.batch, images) / images
    return 2 * seen + 4 * FORWARD if config.network == "resnet" else 0.0


def build(data: Any, config: Config, tools: Tools) -> Callable[[Batch], Tensor]:
    """purify(batch) -> x_le. Raises UsageError without class folders."""
    if data.labels is None or not data.classes:
        raise UsageError(
            "D-VAE needs one folder per class, found images without classes",
            hint="put the images of each class into a folder of its own",
        )
    fitted = _linear if config.network == "linear" else _trained
    first = fitted(0, data, data.batch, config, tools)
    second = fitted(1, data, Stored(data, first, tools), config, tools)

    def purify(batch: Batch) -> Tensor:
        x_1 = whole_levels(without(batch.x.to(tools.device), batch, first, 0))
        x_le, _ = second(without(x_1, batch, second, 1), batch, 2)
        return x_le.clamp(0, 1).to(batch.x.device)

    return purify


def without(x: Tensor, batch: Batch, coder: Coder, draw: int) -> Tensor:
    """clip(x - p)."""
    return (x - coder(x, batch, draw)[1]).clamp(0, 1)


def whole_levels(x: Tensor) -> Tensor:
    return (255 * x).round() / 255


class Stored:
    """x_1 of every row, computed when the first is asked for: (B,3,S,S) in [0,1]."""

    def __init__(self, data: Any, first: Coder, tools: Tools) -> None:
        self.data, self.first, self.tools = data, first, tools
        self.levels: Any = None

    def __call__(self, rows: Tensor) -> Tensor:
        if self.levels is None:
            self.levels = self._all()
        return to_float(self.levels[rows.numpy()])

    def _all(self) -> Any:
        levels = self.tools.array("dvae-x1", (len(self.data), self.data.size, self.data.size, 3), "uint8")
        for rows in torch.split(in_order(self.data), CODE_BATCH):
            batch = _batch(self.data, rows)
            levels[rows.numpy()] = to_uint8(without(batch.x.to(self.tools.device), batch, self.first, 0))
        return levels


def _batch(data: Any, rows: Tensor) -> Batch:
    return Batch(data.batch(rows), data.labels[rows], rows, [data.keys[row] for row in rows.tolist()])


# -- the linear network ------------------------------------------------------------------------------------


def _linear(stage: int, data: Any, images: Callable[[Tensor], Tensor], config: Config, tools: Tools) -> Coder:
    """A stage in closed form; too quick to be resumed."""
    tools.progress.start(f"fitting stage {stage + 1} of 2", len(data))
    coder = linear_vae.fit(images, data.labels, len(data.classes), in_order(data), config.patch, config.rates[stage])
    tools.progress.advance(len(data))
    return lambda x, batch, draw: (coder.image(x), coder.perturbations[batch.labels].to(x.device))


# -- the published network ---------------------------------------------------------------------------------


def _trained(stage: int, data: Any, images: Callable[[Tensor], Tensor], config: Config, tools: Tools) -> Coder:
    """A stage by gradient descent; a training that was killed goes on to the same bytes."""
    name, order, steps = f"dvae-{stage}", in_order(data), _steps(len(data), config)
    model = vae.build(config, len(data.classes), data.size, substream(tools.seed, "dvae", stage)).to(tools.device)
    optimiser = torch.optim.Adam(model.parameters(), config.lr)
    saved = fit.resume(tools, name, model, optimiser)
    done = 0 if saved is None else int(saved["step"])

    def state(step: int) -> dict[str, Any]:
        return {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}

    tools.progress.start(f"fitting stage {stage + 1} of 2", steps, "steps")
    tools.progress.advance(done)
    for step in range(done, steps):
        rows = order[minmin.drawn(len(order), config.batch, step, tools)]
        noise = torch.randn(len(rows), *vae.code_shape(config, data.size), generator=tools.generator(name, step))
        x, y, noise = (part.to(tools.device) for part in (images(rows), data.labels[rows], noise))
        optimiser.param_groups[0]["lr"] = config.lr * (1 + math.cos(math.pi * step / steps)) / 2
        loss = objective(model.train()(x, y, noise), x, stage, step >= config.p_free * steps, config)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()
        tools.save(name, lambda at=step + 1: state(at), SAVE_SECONDS if step + 1 < steps else 0.0)  # type: ignore[misc]
        tools.progress.advance(1, loss=float(loss.detach()))
    return _coder(fit.freeze(model), config, data.size, tools)


def objective(coded: vae.Coded, x: Tensor, stage: int, limited: bool, config: Config) -> Tensor:
    """The loss of a batch; `limited` once p costs something."""
    loss = F.mse_loss(coded.image, x) + F.mse_loss((coded.image + coded.perturbation).clamp(0, 1), x)
    loss = loss + config.rate_weights[stage] * coded.rate.mean().clamp_min(config.rates[stage])
    return loss + coded.perturbation.square().mean().clamp_min(config.p_limit) if limited else loss


def _coder(model: nn.Module, config: Config, size: int, tools: Tools) -> Coder:
    def code(x: Tensor, batch: Batch, draw: int) -> tuple[Tensor, Tensor]:
        noise = None
        if config.code == "sample":
            noise = Stream(tools.seed, batch.keys, vae.code_shape(config, size), tools.device)(0, draw)
        with torch.no_grad():
            coded = model(x, torch.as_tensor(batch.labels).to(tools.device), noise)
        return coded.image, coded.perturbation

    return code


def _steps(images: int, config: Config) -> int:
    """Of each stage."""
    return max(config.epochs * (images // min(config.batch, images)), config.min_steps)

"""Training a prior: the simplified objective of DDPM (arXiv 2006.11239, eq. 14) on t = 1..t_max.

    minimise  E  w(t) || noise - pred_noise( sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise, t ) ||^2

All randomness of a step comes from substreams named by its number, so that a resumed run equals an unbroken
one bit for bit. The average of the weights is ramped (as in EDM, arXiv 2206.00364): a constant 0.9999 would
leave a run of 1,000 steps with 90.5 % of its starting point.

Several processes (`tools.peers`) draw the same batch, take their rows of it and add up their gradients: they take equal
steps, which are those of one process but for the order of sums. Of dropout each has masks of its own.
"""

import contextlib
import copy
import math
from typing import Any

import torch
from torch import Tensor

from ue_audit.diffusion.draws import Images, draw, held_out_psnr, split
from ue_audit.diffusion.muon import Muon
from ue_audit.diffusion.precision import autocast, resolved
from ue_audit.diffusion.prior import Prior, PriorConfig, predict_noise
from ue_audit.diffusion.schedule import on
from ue_audit.diffusion.unet import UNet
from ue_audit.errors import NonFiniteError, ResourceError, UsageError
from ue_audit.tools import Tools

CHECKPOINT_SECONDS = 60.0
GAIN_DB = 0.01  # less than this is no improvement


def train(data: Images, config: PriorConfig, tools: Tools, start: Prior | None = None) -> Prior:
    """The prior with the best held-out PSNR seen; `start` is fine-tuned (its network and schedule are kept).

    Notes for the manifest: steps done, images trained on and held out, precision, the PSNR curve.
    Raises UsageError for fewer than 2 images, NonFiniteError when the loss is no longer a number.
    """
    config = config if start is None else _continuing(config, start)
    train_rows, held_rows = split(len(data), config, tools)
    run = _Run(config, tools, start)
    run.load(tools.restore("prior"))
    _begin_together(run, tools)
    tools.progress.start("train-prior", config.steps, "steps")
    tools.progress.advance(run.step)
    while run.step < config.steps and run.waited < config.patience:
        x0, t, noise = draw(data, train_rows, config, tools, run.step)
        run.descend(x0, t, noise)
        if run.step % config.check_every == 0 or run.step == config.steps:
            run.judge(held_out_psnr(run.prior(data.size), data, held_rows, tools))
        tools.save("prior", run.state, every=CHECKPOINT_SECONDS)
        tools.progress.advance(1, **run.figures())
    tools.progress.stop()
    _take_notes(tools, run, len(train_rows), len(held_rows))
    return run.best_prior(data.size)


def ema_decay(config: PriorConfig, step: int) -> float:
    """How much of the average survives step `step` (from 1): half of it over the ramped half-life."""
    half_life = min(config.ema_half_life, config.ema_ramp * step * config.batch)
    return float(0.5 ** (config.batch / half_life))


def rate(config: PriorConfig, step: int) -> float:
    """The share of the learning rates at step `step` (from 0): a linear rise, then constant or a cosine to 0."""
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    if config.decay == "none":
        return rise
    return rise * 0.5 * (1 + math.cos(math.pi * step / config.steps))


class _Run:
    """What a training carries from step to step: the network, its average, the optimiser, the best so far."""

    def __init__(self, config: PriorConfig, tools: Tools, start: Prior | None) -> None:
        self.config, self.tools = config, tools
        self.schedule = config.schedule
        self.network = _first_network(config, tools, start)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizers = _optimizers(self.network, config)
        self.step, self.waited, self.loss = 0, 0, math.nan
        self.curve: list[dict[str, float]] = []
        self.best = _copy_of(self.average)

    def descend(self, x0: Tensor, t: Tensor, noise: Tensor) -> None:
        config, device = self.config, self.tools.device
        weight = self.schedule.sigma(t) ** config.weighting
        weight = weight / (self.schedule.sigma(torch.arange(1, config.t_max + 1)) ** config.weighting).mean()
        mine = self.tools.peers.rows(len(x0))
        share = (mine.stop - mine.start) / len(x0)
        x0, t, noise, weight = x0[mine].to(device), t[mine], noise[mine].to(device), weight[mine]
        x_t = self.schedule.q_sample(x0, t, noise)
        with _dropout_dice(self.tools, self.step), autocast(device, config.precision):
            pred_noise = predict_noise(self.network, config, self.schedule, x_t, t.to(device))
        loss = share * (on(weight, x0) * (pred_noise - noise).square()).mean()
        self.network.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        loss = loss.detach()
        self.tools.peers.add_up([loss, *(w.grad for w in self.network.parameters() if w.grad is not None)])
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = optimizer.defaults["lr"] * rate(config, self.step)
            optimizer.step()
        self.step += 1
        decay = ema_decay(config, self.step)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        self._watch(loss)

    def _watch(self, loss: Tensor) -> None:
        if self.step % 10 and self.step != self.config.steps:
            return  # reading the loss makes a GPU wait
        self.loss = float(loss)
        if not math.isfinite(self.loss):
            raise NonFiniteError(f"the loss is {self.loss} at step {self.step}", hint="try a lower lr")

    def judge(self, psnr: dict[str, float]) -> None:
        """Keep the average if it is the best so far, and count the measurements since the last real gain."""
        best = max((_mean(point) for point in self.curve), default=-math.inf)
        self.curve.append({"step": self.step, **psnr})
        if _mean(self.curve[-1]) > best:
            self.best = _copy_of(self.average)
        self.waited = 0 if _mean(self.curve[-1]) > best + GAIN_DB else self.waited + 1

    def figures(self) -> dict[str, float]:
        loss = {"loss": self.loss} if math.isfinite(self.loss) else {}
        return loss | ({"psnr": _mean(self.curve[-1])} if self.curve else {})

    def prior(self, size: int) -> Prior:
        """The average of now, to be measured."""
        return Prior(self.average, self.config, size).to(self.tools.device)

    def best_prior(self, size: int) -> Prior:
        self.average.load_state_dict(self.best)
        psnr = {key: value for key, value in max(self.curve, key=_mean).items() if key != "step"}
        return Prior(self.average, self.config, size, psnr).to(self.tools.device)

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "waited": self.waited,
            "loss": self.loss,
            "curve": self.curve,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "best": self.best,
        }

    def load(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        self.step, self.waited, self.loss = state["step"], state["waited"], state["loss"]
        self.curve, self.best = state["curve"], state["best"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.tools.progress.say(f"{self.step}/{self.config.steps} steps done, resuming")


def _optimizers(network: UNet, config: PriorConfig) -> list[torch.optim.Optimizer]:
    edges = {network.conv_in.weight, network.conv_out.weight}
    hidden = [w for w in network.parameters() if w.dim() == 4 and w not in edges]
    if config.optimizer == "adam":
        return [torch.optim.Adam(network.parameters(), lr=config.lr)]
    rest = [w for w in network.parameters() if w.dim() != 4 or w in edges]
    return [Muon(hidden, lr=config.muon_lr), torch.optim.Adam(rest, lr=config.lr)]


def _continuing(config: PriorConfig, start: Prior) -> PriorConfig:
    """Fine-tuning keeps what the weights mean: the network and the schedule they were trained with."""
    kept = {key: getattr(start.config, key) for key in ("network", "predicts", "T", "betas", "beta_1", "beta_T")}
    return PriorConfig(**{**config.model_dump(), **kept})


def _first_network(config: PriorConfig, tools: Tools, start: Prior | None) -> UNet:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(tools.generator("prior", "weights").initial_seed())
        network = UNet(config.network)
    if start is not None:
        network.load_state_dict(start.network.state_dict())
    network.to(tools.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _dropout_dice(tools: Tools, step: int) -> Any:
    """The global generators, which dropout draws from: seeded for this step, put back after it."""
    cuda = [tools.device] if tools.device.type == "cuda" else []
    own = [tools.peers.own] if tools.peers.own else []
    stack, seed = contextlib.ExitStack(), tools.generator("prior", "dropout", step, *own).initial_seed()
    stack.enter_context(torch.random.fork_rng(devices=cuda))
    torch.default_generator.manual_seed(seed)
    if cuda:
        with torch.cuda.device(tools.device):
            torch.cuda.manual_seed(seed)
    return stack


def _begin_together(run: _Run, tools: Tools) -> None:
    """Every process has what the first one saved before that goes on. Raises ResourceError if one has not, UsageError
    for a batch of fewer images than processes."""
    if run.config.batch < tools.peers.count:
        raise UsageError(f"expected a batch of {tools.peers.count} images or more, found {run.config.batch}")
    (step,) = tools.peers.agree([run.step])
    if step != run.step:
        raise ResourceError(f"process {tools.peers.own} is at step {run.step}, the first one at {step:.0f}")


def _mean(point: dict[str, float]) -> float:
    return sum(value for key, value in point.items() if key != "step") / (len(point) - 1)


def _copy_of(network: UNet) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


def _take_notes(tools: Tools, run: _Run, train_images: int, held_images: int) -> None:
    tools.note("steps", run.step)
    tools.note("stopped_early", run.step < run.config.steps)
    tools.note("train_images", train_images)
    tools.note("held_out_images", held_images)
    tools.note("precision", resolved(tools.device, run.config.precision))
    tools.note("curve", run.curve)

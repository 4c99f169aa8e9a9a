"""UC: unlearnable clusters, a map for every group of images that look alike, whatever their labels.

K-means groups the images by their features phi under a frozen encoder. For every cluster c one map is trained that
gives any image the features of the next cluster's centre mu_pi(c), pi(c) = (c + 1) mod K:

    min over d_c:  E_x KL( softmax(mu_pi(c) / T) || softmax(phi(clip(x + d_c, 0, 1)) / T) ),   |d_c| <= eps

d_c comes out of a network of its own (`training/generator.py`). Who trains on the protected images finds clusters
that are told apart by their maps, and that lie where others were. With a given encoder no label is looked at; one
trained on the owner's labels (`encoder: own`) follows them. `resnet50` is the authors' encoder, `clip-rn50` makes
this UC-CLIP, `own` is nobody's published setting.

Differs from the authors' code: they clip tanh(G) to eps, which stops the gradient outside (`bound: clip`); they train
every map on all images (`images: all`), here it is those of its cluster, K times cheaper; maps are made at the
images' working size. Their T is 1, which suits ResNet-50's features; those of other encoders may be a hundred times
larger and their softmax a single 1 that teaches nothing, so T follows their size. The maps depend on names
and seed, not on the order of the files.
"""

import math
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ue_audit.errors import UsageError
from ue_audit.tools import Tools
from ue_audit.training import augment, cost, encoders, fit, generator, kmeans, pgd, surrogate
from ue_audit.training.noise import Noise
from ue_audit.training.rows import in_order

SOURCE = "Zhang et al., Unlearnable Clusters, arXiv 2301.01217, section 3"
BUDGET = "linf"
NEEDS = ("encoder",)
SOFT = 4.0  # default temperature, in root mean squares of the features
FEW = 0.5  # of the images left their centre; below, a warning


class Config(encoders.Encoding, generator.Making):
    """Defaults: what moves some thousand small images on a laptop.

    4 x 500 images of CIFAR-10 with `own`, `small`, 15 epochs, 3 training seeds: protected 41.1 %, noise of the same
    norm 78.1 %, clean 80.1 % (one crafting). Learners without labels: unmeasured.
    """

    clusters: int = Field(10, ge=2)  # K; fewer where fewer images differ
    images: Literal["cluster", "all"] = "cluster"  # that a map is trained on
    epochs: int = Field(20, ge=1)  # passes over them
    min_steps: int = Field(600, ge=0)  # a small cluster is passed more often than `epochs`, up to this many steps
    batch: int = Field(16, ge=1)
    temperature: float | None = Field(None, gt=0)  # T; not given: 4 times the root mean square of all phi
    shift: float = Field(0.0625, ge=0, le=0.5)  # images are cropped at random (share of the side), mirrored if > 0


class Problem(NamedTuple):
    """Images in clusters. The rows of `order` are in the order of the images' names."""

    data: Any
    encode: encoders.Encoder
    order: Tensor  # (N,)
    centres: Tensor  # (K,F) float64
    members: Tensor  # (N,) the cluster of each row
    temperature: float
    config: Config
    tools: Tools

    def goals(self) -> Tensor:
        """pi, (K,): the cluster whose centre the images of each are to have."""
        return (torch.arange(len(self.centres)) + 1) % len(self.centres)

    def rows(self, cluster: int) -> Tensor:
        """What its map is trained on."""
        return self.order if self.config.images == "all" else self.order[self.members[self.order] == cluster]


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) in [-eps, eps] with x + delta in [0,1]. Raises UsageError where all images are equal."""
    problem = pose(data, config, tools)
    maps = craft(problem)

    def delta(rows: Tensor) -> Tensor:
        return pgd.project(data.batch(rows), maps[problem.members[rows]], config.eps)

    _judge(problem, delta)
    return delta


def pose(data: Any, config: Config, tools: Tools) -> Problem:
    """The images in clusters, found once and kept."""
    encode, order = encoders.load(config, data, tools), in_order(data)
    found = tools.restore("clusters")
    if found is None:
        features = encoders.features(encode, data, order, tools)
        centres = kmeans.fit(features, config.clusters, tools)
        members = torch.empty_like(order).scatter_(0, order, kmeans.nearest(features, centres))
        rms = float(torch.from_numpy(np.square(features).mean(1)).double().mean().sqrt())
        found = {"centres": centres, "members": members, "temperature": config.temperature or SOFT * rms}
        tools.save("clusters", lambda: found)
    if len(found["centres"]) < 2:
        raise UsageError("expected two images or more that the encoder tells apart, found none", hint="add images")
    tools.note("cluster_sizes", torch.bincount(found["members"]).tolist())
    return Problem(data, encode, order, **found, config=config, tools=tools)


def craft(problem: Problem) -> Noise:
    """A map for every cluster; goes on after the last one that was finished."""
    data, config, tools, clusters = problem.data, problem.config, problem.tools, len(problem.centres)
    maps = Noise(tools.array("maps", (clusters, 3, data.size, data.size), "float16"))
    done = (tools.restore("maps") or {"done": 0})["done"]
    steps = [_steps(len(problem.rows(cluster)), config)[0] for cluster in range(clusters)]
    tools.progress.start("crafting", sum(steps), "steps")
    tools.progress.advance(sum(steps[:done]))
    for cluster in range(done, clusters):
        pull = towards(problem, cluster)
        maps[torch.tensor([cluster])] = generator.learn(cluster, data.size, pull, steps[cluster], config, tools)
        tools.save("maps", lambda done=cluster + 1: {"done": done})  # type: ignore[misc]
    return maps


def towards(problem: Problem, cluster: int) -> generator.Pull:
    """d (1,3,S,S), step -> the mean divergence from the goal of the step's images under d, and its gradient in d."""
    data, config, tools, encode = problem.data, problem.config, problem.tools, problem.encode
    goal = problem.centres[problem.goals()[cluster]].float().to(tools.device)
    rows = problem.rows(cluster)
    pad, per_pass = round(config.shift * data.size), _steps(len(rows), config)[1]

    def pull(d: Tensor, step: int) -> tuple[float, Tensor]:
        epoch, position = divmod(step, per_pass)
        batch = list(fit.batches(len(rows), config.batch, tools.generator("order", cluster, epoch)))[position]
        drawn = augment.draw_views(len(batch), pad, pad > 0, tools.generator("view", cluster, step))
        x = augment.view(data.batch(rows[batch]).to(tools.device), drawn, pad)
        loss, slope = torch.zeros((), device=d.device), torch.zeros_like(d)
        for some in torch.split(x, encode.chunk(data.size)):
            part = d.clone().requires_grad_()
            features = encode((some + part).clamp(0, 1))
            apart = divergence(goal / problem.temperature, features / problem.temperature).sum() / len(batch)
            slope += torch.autograd.grad(apart, part)[0]
            loss += apart.detach()
        return float(loss), slope

    return pull


def divergence(goal: Tensor, features: Tensor) -> Tensor:
    """KL( softmax(goal) || softmax(features) ), (B,), of features (B,F) from a goal (F,)."""
    log_goal = goal.log_softmax(0)
    return (log_goal.exp() * (log_goal - features.log_softmax(1))).sum(1)


def _steps(images: int, config: Config) -> tuple[int, int]:
    """Steps of a map in all, and in one pass over so many images."""
    per_pass = images // min(config.batch, images)
    return max(config.epochs, math.ceil(config.min_steps / per_pass)) * per_pass, per_pass


def _judge(problem: Problem, delta: Callable[[Tensor], Tensor]) -> None:
    """Into the manifest: the shares of images, rounded to 8 bits, that left their centre, and that came to the goal."""
    tools, rows = problem.tools, problem.order
    features = encoders.features(problem.encode, problem.data, rows, tools, delta)
    near, members = kmeans.nearest(features, problem.centres), problem.members[rows]
    left = float((near != members).float().mean())
    tools.note("left", left)
    tools.note("moved", float((near == problem.goals()[members]).float().mean()))
    if left < FEW:
        warning = f"{left:.0%} of the images left the centre of their cluster; raise epochs, min_steps or eps"
        tools.warn(warning)


# -- the cost ----------------------------------------------------------------------------------------------


def passes(config: Config, images: int) -> float:
    """Forward and backward passes of the encoder per image, if the clusters are of equal size."""
    spent = _images_seen(config, images) / images + 2 * cost.FORWARD
    return spent + (surrogate.passes(config.own, images) if config.encoder in ("auto", "own") else 0)


def _images_seen(config: Config, images: int) -> float:
    clusters = min(config.clusters, images)
    trained_on = images if config.images == "all" else images // clusters
    return clusters * _steps(trained_on, config)[0] * min(config.batch, trained_on)


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds, from one timed step of a map and the training of the encoder, if it is an own one."""
    kind, _ = encoders.choose(config, tools)
    encode = encoders.untrained(config, data, tools) if kind == "own" else encoders.load(config, data, tools)
    order = torch.arange(min(config.batch, len(data)))
    centres = torch.zeros(2, encode(data.batch(order[:1]).to(tools.device)).shape[1], dtype=torch.float64)
    trial = config.model_copy(update={"images": "all"})
    pull = towards(Problem(data, encode, order, centres, torch.zeros(len(data)), 1.0, trial, tools), 0)
    quiet = Tools(device=tools.device, seed=tools.seed)
    generator.learn(0, data.size, pull, 1, config, quiet)  # the first step sets the kernels up
    start = time.monotonic()
    generator.learn(0, data.size, pull, 1, config, quiet)
    per_step = time.monotonic() - start
    steps = _images_seen(config, len(data)) / len(order)
    own = 0.0
    if kind == "own":
        training = cost.seconds_per_pass(data, config.own.surrogate, lambda x, draw: x, tools)
        own = training * surrogate.passes(config.own, len(data)) * len(data)
    return own + per_step * (steps + 2 * cost.FORWARD * len(data) / len(order))

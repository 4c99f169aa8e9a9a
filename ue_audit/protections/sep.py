"""SEP: self-ensemble protection. TAP against all the states that one training went through.

A network is trained once on the clean images and kept at n evenly spaced steps. Every image is moved until all n
take it for another class; a victim, whatever it has learnt so far, then learns that class under the wrong name:

    d_i = argmin sum_k l_k(t_k(x_i + d), pi(y_i)),   |d| <= eps
    l_k = CE(f_k(u), c)   or, with `objective: features`,   l_k = mean (h_k(u) - m_k,c)^2

where h_k is what the last layer of f_k reads and m_k,c its mean over the clean images of class c. Differs from the
authors' code: every network sees a random crop and flip of its own at every step; pi goes half-way round the classes
in the order of their names, which is their y + 5 for ten; the networks stay in memory; without variance reduction.
The noise depends on names and seed, not on the order of the files.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ue_audit.config import Levels
from ue_audit.tools import Tools
from ue_audit.training import surrogate, targeted
from ue_audit.training.rows import in_order, labels_of

SOURCE = "Chen et al., Self-Ensemble Protection, arXiv 2211.12005, section 3"
BUDGET = "linf"
NEEDS = ("labels",)


class Config(targeted.Settings):
    """Defaults: what protects some thousand small images on a laptop.

    4 x 500 images of CIFAR-10, `small`, 15 epochs, 3 training seeds: protected 48.9 %, noise of the same norm 80.4 %,
    clean 80.1 % (one crafting, H100).
    """

    checkpoints: int = Field(8, ge=1)  # n: evenly spaced over the training, the finished network included
    objective: Literal["logits", "features"] = "logits"
    permutation: targeted.Permutation = "opposite"  # of the classes by name: the next one, half-way round, or drawn
    alpha: Levels = Field(1 / 255, gt=0, le=1)  # signed step
    steps: int = Field(15, ge=1)


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) in [-eps, eps] with x + delta in [0,1]. Raises UsageError."""
    labels = labels_of(data)
    view = surrogate.cropped(config)
    networks = surrogate.train(data, labels, config, tools, view, config.checkpoints)
    targets = targeted.permutation(data.classes, config.permutation, tools)[labels]
    make = naming if config.objective == "logits" else aligning
    objectives = [make(network, data, labels, tools) for network in networks]
    aim = targeted.Aim(data, targets, objectives, view, config, tools)
    noise = targeted.craft(aim)
    tools.note("poison_accuracy", targeted.hits(aim, noise, networks[-1]))  # share put into the target class
    return targeted.delta(aim, noise)


def naming(network: nn.Module, data: Any, labels: Tensor, tools: Tools) -> targeted.Objective:
    """CE(f(u), c)."""
    return lambda u, y: surrogate.cross_entropy(network, u, y)


def aligning(network: nn.Module, data: Any, labels: Tensor, tools: Tools) -> targeted.Objective:
    """mean over features of (h(u) - m_c)^2, the centres taken from the clean images."""
    total, order = torch.zeros(()), in_order(data)
    for rows in torch.split(order, surrogate.MEASURE_BATCH):
        with torch.no_grad():
            features = surrogate.features_of(network, data.batch(rows).to(tools.device))
        members = torch.nn.functional.one_hot(labels[rows], len(data.classes)).to(features)  # (B,K)
        total = total.to(features) + members.T @ features
    counts = torch.bincount(labels, minlength=len(data.classes)).clamp(min=1)
    centres = total / counts[:, None].to(total)  # (K,F)
    return lambda u, y: (surrogate.features_of(network, u) - centres[y]).square().mean(1)


def passes(config: Config, images: int) -> float:
    """Forward and backward passes per image."""
    return targeted.passes(config, images, config.checkpoints)


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds, from one timed gradient."""
    return targeted.estimate(data, config, tools, surrogate.cropped(config), passes(config, len(data)))

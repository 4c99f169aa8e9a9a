"""The probe: what frozen features h(x) are worth to a classifier that labelled images are read through.

Which images decides what the answer means (`probe_on`):

    clean     the clean originals of the training set: *optimistic*, the literature's; no attacker has them all
    training  the training images themselves with their labels, protected where those are: *pessimistic*
    own       the attacker's own clean labelled images, as many as there are

Linear probes solve  min over W, b of  mean_i CE(W h_i + b, y_i) + probe_decay/2 |W|^2.

`logistic` takes each image once, as it is, standardises every feature and solves the problem by L-BFGS from zero. It
is convex, so nothing is drawn and the answer is a property of the features; it takes seconds. `sgd` is the protocol of
the contrastive-poisoning literature: 100 passes of SGD over resized crops and mirrored images, learning rate 1, times
0.2 after 60, 75 and 90 of 100, no decay, features as they come. Differs from the authors' code: it reports the best of
the 100 passes on the test images, which no attacker can know; here it is the last. W starts at zero, not drawn. `knn`
fits nothing: the nearest images vote (`training/knn.py`).
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ue_audit.config import Config
from ue_audit.errors import UsageError
from ue_audit.tools import Tools
from ue_audit.training import fit as loop
from ue_audit.training import joined, knn, views

BATCH = 500  # images encoded at once
LBFGS_STEPS = 500  # at most
FLAT = 1e-6  # a feature that varies less is constant
MOMENTUM = 0.9  # of sgd
DROPS, DROP = (0.60, 0.75, 0.90), 0.2  # of sgd: shares of the passes after which the learning rate falls, and by what
SEEN = views.Views.model_validate({})  # of sgd: the crops and mirror images of these

Encode = Callable[[Tensor], Tensor]  # (B,3,S,S) in [0,1] on the device -> (B,F), in evaluation mode, without gradients


READING = {"clean": "optimistic", "training": "pessimistic", "own": "own images"}


class Recipe(Config):
    """How the probe is fitted, and on what. The defaults of `sgd` and `knn` are the published ones."""

    probe: Literal["logistic", "sgd", "knn"] = "logistic"
    probe_on: Literal["clean", "training", "own"] = "clean"
    probe_decay: float = Field(1e-3, ge=0)  # of logistic
    probe_epochs: int = Field(100, ge=1)  # of sgd
    probe_lr: float = Field(1.0, gt=0)  # of sgd
    probe_batch: int = Field(512, ge=2)  # of sgd
    probe_k: int = Field(200, ge=1)  # of knn: neighbours, fewer in a small set
    probe_temperature: float = Field(0.07, gt=0)  # of knn


class Line(NamedTuple):
    """A linear classifier of features: logits = weight h + bias."""

    weight: Tensor  # (K, F)
    bias: Tensor  # (K,)


def fit(encode: Encode, data: Any, recipe: Recipe, tools: Tools) -> Callable[[Tensor], Tensor]:
    """The classifier x (B,3,S,S) -> logits (B,K) float32 of features of now, fitted on all of `data`."""
    if recipe.probe == "knn":
        bank, y = _encoded(encode, data, tools)
        k = knn.neighbours(recipe.probe_k, len(y), len(data.classes))
        return lambda x: knn.votes(encode(x.to(tools.device)), bank, y, len(data.classes), k, recipe.probe_temperature)
    if recipe.probe == "sgd":
        line = sgd(encode, data, recipe, tools)
    else:
        line = logistic(*_encoded(encode, data, tools), len(data.classes), recipe.probe_decay)
    return lambda x: F.linear(encode(x.to(tools.device)), *line)


def labelled(data: Any, recipe: Recipe, tools: Tools) -> Any:
    """The images the probe is fitted on, with a note that names them. Raises UsageError where they are missing."""
    if recipe.probe_on == "own":
        images = joined.own_of(data, "this probe")
    else:
        images = data.clean if recipe.probe_on == "clean" else data
    if images is None:
        raise UsageError(
            "an optimistic probe needs the clean originals, none were given",
            hint="name them, or fit it on the training images themselves: --set probe_on=training",
        )
    if images.labels is None or len(images.classes) < 2:
        found = "images without classes" if images.labels is None else f"{len(images.classes)} class"
        raise UsageError(f"a probe needs two class folders or more, found {found}")
    if recipe.probe_on == "own":
        tools.note("own_images", len(images))
    tools.note("probe", f"{READING[recipe.probe_on]}: {recipe.probe} on {len(images)} {recipe.probe_on} images")
    return images


def logistic(h: Tensor, y: Tensor, classes: int, decay: float) -> Line:
    """Multinomial logistic regression of features h (N,F), in float64 on the CPU; the answer is on the device of h.

    `decay` falls on the weights of standardised features; a constant feature gets none.
    """
    at, h, y = h.device, h.cpu().double(), y.cpu()
    centre, scale = h.mean(0), h.std(0, correction=0)
    scale = torch.where(scale > FLAT, scale, torch.inf)
    z = (h - centre) / scale
    weight = h.new_zeros(classes, h.shape[1]).requires_grad_()
    bias = h.new_zeros(classes).requires_grad_()
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=LBFGS_STEPS, tolerance_grad=1e-6, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(F.linear(z, weight, bias), y) + decay / 2 * weight.square().sum()
        torch.autograd.backward(loss)
        return loss

    solver.step(objective)  # type: ignore[no-untyped-call]
    raw = (weight / scale).detach()
    return Line(raw.float().to(at), (bias.detach() - raw @ centre).float().to(at))


def sgd(encode: Encode, data: Any, recipe: Recipe, tools: Tools) -> Line:
    """The published protocol: `probe_epochs` passes of crops and mirror images."""
    features = encode(data.batch(torch.arange(1)).to(tools.device)).shape[1]
    line = Line(*(torch.zeros(n, device=tools.device) for n in ((len(data.classes), features), len(data.classes))))
    line.weight.requires_grad_(), line.bias.requires_grad_()
    optimiser = torch.optim.SGD(line, lr=recipe.probe_lr, momentum=MOMENTUM)
    for epoch in range(recipe.probe_epochs):
        optimiser.param_groups[0]["lr"] = rate(epoch, recipe)
        for h, y in _crops(encode, data, recipe.probe_batch, epoch, tools):
            optimiser.zero_grad()
            torch.autograd.backward(F.cross_entropy(F.linear(h, *line), y))
            optimiser.step()
    return Line(*(part.detach() for part in line))


def rate(epoch: int, recipe: Recipe) -> float:
    """Learning rate of the pass `epoch` (from 0): the first 60 of 100 at the full rate."""
    return recipe.probe_lr * DROP ** sum(epoch >= share * recipe.probe_epochs for share in DROPS)


def _crops(encode: Encode, data: Any, batch: int, epoch: int, tools: Tools) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass: features and labels of batches of crops."""
    order = loop.batches(len(data), batch, tools.generator("probe", "order", epoch))
    for step, rows in enumerate(order):
        drawn = views.draw(len(rows), SEEN, tools.generator("probe", "views", epoch, step)).to(tools.device)
        x = data.batch(rows).to(tools.device)
        yield encode(views.crop(x, drawn)), data.labels[rows].to(tools.device)


def _encoded(encode: Encode, data: Any, tools: Tools) -> tuple[Tensor, Tensor]:
    """Features (N,F) float32 of all images as they are, and their labels, on the device."""
    rows = torch.split(torch.arange(len(data)), BATCH)
    return torch.cat([encode(data.batch(part).to(tools.device)) for part in rows]), data.labels.to(tools.device)

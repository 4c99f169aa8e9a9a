"""Fast AutoAugment: every image gets one of 493 published pairs of operations, each with its probability and strength.

Levels of 0 to 1 stand for the strengths of `REACH`; shears, translations and rotations go either way. Operations are
Pillow's, as in the authors' code, on float images, with two differences: nothing is rounded to 8 bits in between, and
a hole is cut at every border, where theirs at the left and the top is moved inside. Source: Lim et al., arXiv
1905.00397; the policy is `fast_autoaugment.txt`.
"""

from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import NamedTuple

import torch
from torch import Tensor

from ue_audit.training import mixing
from ue_audit.training.trivial_augment import OPERATIONS, Reach, warp

GREY = (125 / 255, 123 / 255, 114 / 255)  # what fills the policy's own holes
REACH = {  # strengths at levels 0 and 1, and whether half of the images get the negative
    "ShearX": Reach(-0.3, 0.3, True),
    "ShearY": Reach(-0.3, 0.3, True),
    "TranslateX": Reach(-0.45, 0.45, True),  # of the side
    "TranslateY": Reach(-0.45, 0.45, True),
    "Rotate": Reach(-30, 30, True),  # degrees
    "AutoContrast": Reach(),
    "Invert": Reach(),
    "Equalize": Reach(),
    "Solarize": Reach(0, 256 / 255),
    "Posterize": Reach(4, 8),  # bits, rounded down
    "Contrast": Reach(-0.9, 0.9),  # factors, less 1
    "Color": Reach(-0.9, 0.9),
    "Brightness": Reach(-0.9, 0.9),
    "Sharpness": Reach(-0.9, 0.9),
    "Cutout": Reach(0, 0.2),  # of the side
}
NAMES = tuple(REACH)


class Policy(NamedTuple):
    """Sub-policies of two operations, all (P, 2): places in `NAMES`, probabilities, strengths, whether either way."""

    operation: Tensor
    probability: Tensor
    strength: Tensor
    signed: Tensor


class Drawn(NamedTuple):
    """What happens to n images: (n, 2) places in `NAMES` (-1: nothing), strengths, and where a hole would be."""

    operation: Tensor
    strength: Tensor
    down: Tensor
    along: Tensor


@cache
def policy() -> Policy:
    """The published one."""
    text = resources.files(__package__).joinpath("fast_autoaugment.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    steps = [[(row[k], float(row[k + 1]), float(row[k + 2])) for k in (0, 3)] for row in rows]
    place = torch.tensor([[NAMES.index(name) for name, _, _ in row] for row in steps])
    reaches = torch.tensor([tuple(map(float, reach)) for reach in REACH.values()])[place]  # (P, 2, 3)
    level = torch.tensor([[level for _, _, level in row] for row in steps])
    strength = torch.lerp(reaches[:, :, 0], reaches[:, :, 1], level)
    strength = torch.where(place == NAMES.index("Posterize"), strength.floor(), strength)
    return Policy(place, torch.tensor([[p for _, p, _ in row] for row in steps]), strength, reaches[:, :, 2].bool())


def draw(n: int, generator: torch.Generator) -> Drawn:
    """A sub-policy for each of n images, and what of it happens."""
    known = policy()
    row = torch.randint(len(known.operation), (n,), generator=generator)
    happens, mirror, down, along = torch.rand(4, n, 2, generator=generator)
    strength = known.strength[row]
    strength = torch.where(known.signed[row] & (mirror < 0.5), -strength, strength)
    return Drawn(torch.where(happens < known.probability[row], known.operation[row], -1), strength, down, along)


def apply(x: Tensor, drawn: Drawn) -> Tensor:
    """(B,3,S,S) in [0,1] -> the same shape and range."""
    for step in (0, 1):
        out = x.clone()
        for place, name in enumerate(NAMES):
            rows = (drawn.operation[:, step] == place).nonzero().flatten()
            if len(rows):
                strength, down, along = (part[rows, step].to(x) for part in drawn[1:])
                rows = rows.to(x.device)
                out[rows] = operate(name, x[rows], strength, down, along)
        x = out
    return x


def operate(name: str, x: Tensor, strength: Tensor, down: Tensor, along: Tensor) -> Tensor:
    """x (B,3,S,S) after the operation of that published name; all others (B,)."""
    if name == "Cutout":
        share = torch.where(strength > 0, strength + 0.5 / x.shape[3], 0)  # Pillow's rectangles hold their last pixel
        return mixing.holes(x, share, (down, along), GREY)
    return PILLOW[name](x, strength.view(-1, 1, 1, 1))


PILLOW: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ShearX": OPERATIONS["shear_x"],
    "ShearY": OPERATIONS["shear_y"],
    "TranslateX": lambda x, share: warp(x, ((1, 0, share * x.shape[3]), (0, 1, 0))),  # to the nearest pixel
    "TranslateY": lambda x, share: warp(x, ((1, 0, 0), (0, 1, share * x.shape[2]))),
    "Rotate": OPERATIONS["rotate"],
    "AutoContrast": OPERATIONS["autocontrast"],
    "Invert": lambda x, _: 1 - x,
    "Equalize": OPERATIONS["equalize"],
    "Solarize": OPERATIONS["solarize"],
    "Posterize": OPERATIONS["posterize"],
    "Contrast": OPERATIONS["contrast"],
    "Color": OPERATIONS["colour"],
    "Brightness": OPERATIONS["brightness"],
    "Sharpness": OPERATIONS["sharpness"],
}

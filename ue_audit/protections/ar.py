"""AR: autoregressive perturbations. No network is trained and no pixel of the images is looked at.

Every class has three processes, one per channel: windows b of 3x3 whose last entry is 0 and whose others sum to 1.
A map starts from normal noise in its first two rows and columns and is filled in raster order by

    u[i,j] = sum over (a,b) != (0,0) of b[a,b] u[i-a,j-b],   a, b in 0..2,   d = r * u / ||u||_2

so that a convolution with the class's window, -1 in its last entry, is silent on maps of the class and on no other.
A process is taken if its maps stay bounded and the filters of the classes before, in the order of their names, all
respond to them: the authors' rule, with a map's norm held to 50 and a response of 10 at ten classes, 3 at a hundred.

Differs from the authors' code: a generator per class and per image, so that the order of files changes nothing and a
class that joins changes another only where their processes are too alike; and images wider than `tile` wear the
process in tiles, each started anew. Over 224 px a process found at 32 px fades, or grows until all the change sits in
one corner (measured on 60 processes: the norm per pixel grew 12-fold at the median, 10^5-fold and more for a tenth).
The norm is 1.0 at 32 px and grows with the side, which keeps the change per pixel. The processes used are in the
manifest, to 6 decimals and exactly as used: a process that diverges unseen is the defect of the authors' first release.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ue_audit.config import Config as Base
from ue_audit.errors import UsageError
from ue_audit.tools import Tools
from ue_audit.training.rows import labels_of

SOURCE = "Sandoval-Segura et al., Autoregressive Perturbations for Data Poisoning, arXiv 2206.03693, section 3"
BUDGET = "l2"
NEEDS = ("labels",)
REFERENCE_SIDE = 32
BURN = 4  # rows and columns that are left off: the first two are the start
TRIALS = 3  # maps a candidate process is judged by
DRAWN = 256  # candidates at once
MOST = 2**18  # candidates before a bound that none keeps is given up
AT_ONCE = 512  # tiles at once
CLASSES = 10  # up to here `response` is asked for in full
DECIMALS = 6
TAPS = [(a, b) for a in (2, 1, 0) for b in (2, 1, 0)][:-1]  # (up, left) of the window's entries, row by row
FRAGILE = (
    "AR is fine-grained and its strongest pixels change by about 24 levels at L2 = 1.0: JPEG at quality 10 undid it "
    "(85 % accuracy, 13 % without; published, CIFAR-10), and flat regions may show specks"
)


class Config(Base):
    l2: float = Field(1.0, ge=0)  # norm of the change of a 32 px image, in [0,1] units; scaled with the side
    tile: int = Field(32, ge=8, le=224)  # side, in pixels, over which a process runs before it is started anew
    response: float = Field(10.0, ge=0)  # least response of other classes' filters; times (10/k)^1/2 for class k > 10
    bound: float = Field(50.0, gt=0)  # of a map's norm before it is scaled, at 32 px
    candidates: int = Field(16384, ge=1)  # drawn for a class; where none gets the response, the best is taken


@dataclass(frozen=True)
class Maps:
    """d of any rows, at the working size or an image's own."""

    data: Any
    labels: Tensor  # (N,)
    processes: Tensor  # (K,3,8)
    config: Config
    tools: Tools

    def __call__(self, rows: Tensor) -> Tensor:
        return self._at(rows, self.data.size, self.data.size)

    def native(self, row: int, x: Tensor) -> Tensor:
        """d of one image x (3,H,W) at its own size, by its own draw."""
        return self._at(torch.tensor([row]), x.shape[-2], x.shape[-1])[0]

    def _at(self, rows: Tensor, height: int, width: int) -> Tensor:
        side = self.config.tile
        down, across = -(-height // side), -(-width // side)
        starts = torch.cat([self._start(int(row), down * across) for row in rows])
        processes = self.processes[self.labels[rows]].repeat_interleave(down * across, 0)
        pairs = zip(torch.split(processes, AT_ONCE), torch.split(starts, AT_ONCE), strict=True)
        tiles = torch.cat([_unit(run(b, start, side)).float() for b, start in pairs])
        maps = tiles.view(-1, down, across, 3, side, side).permute(0, 3, 1, 4, 2, 5)
        maps = maps.reshape(-1, 3, down * side, across * side)[..., :height, :width]
        return self.config.l2 * math.sqrt(height * width) / REFERENCE_SIDE * _unit(maps)

    def _start(self, row: int, tiles: int) -> Tensor:
        return _noise(tiles, self.config.tile, self.tools.generator("start", self.data.keys[row]))


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) of norm l2 * S / 32. Raises UsageError without two classes or a bounded process."""
    labels = labels_of(data)
    found = search(data.classes, config, tools)
    tools.note("processes", {name: process.taps.tolist() for name, process in found.items()})
    tools.note("least_response", round(min(process.least for process in found.values()), 2))
    tools.warn(FRAGILE)
    return Maps(data, labels, torch.stack([found[name].taps for name in data.classes]), config, tools)


def run(processes: Tensor, start: Tensor, side: int) -> Tensor:
    """Maps (B,3,side,side) of processes (B,3,8) from start noise (B,3,4n-4), n = side + BURN; float64.

    Pixels of one anti-diagonal depend on the four before it and not on each other, so each is one step for the batch.
    """
    n, maps = side + BURN, 3 * len(start)
    taps = processes.double().flatten(0, 1).T.contiguous()  # (8, 3B)
    noise = start.double().flatten(0, 1).T
    flat = torch.zeros(n * n, maps, dtype=torch.float64)
    square = flat.view(n, n, maps)
    square[:2], square[2:, :2] = noise[: 2 * n].view(2, n, maps), noise[2 * n :].view(n - 2, 2, maps)
    for diagonal in range(4, 2 * n - 1):
        top, bottom = max(2, diagonal - n + 1), min(n - 1, diagonal - 2)
        first, last = top * n + diagonal - top, bottom * n + diagonal - bottom
        pixels = flat[first : last + 1 : n - 1]  # (pixels, 3B), a view
        for tap, (up, left) in zip(taps, TAPS, strict=True):
            back = up * n + left
            pixels.addcmul_(flat[first - back : last - back + 1 : n - 1], tap)
    return square.view(n, n, -1, 3)[BURN:, BURN:].permute(2, 3, 0, 1).contiguous()


# -- the search for processes ------------------------------------------------------------------------------


class Process(NamedTuple):
    """A process (3,8) and the least response of the filters before it to its maps, infinite without any."""

    taps: Tensor
    least: float


def search(classes: Any, config: Config, tools: Tools) -> dict[str, Process]:
    """A process for every class, in the order of names. Raises UsageError if none stays bounded."""
    saved = tools.restore("processes") or {}
    found = {name: Process(*saved[name]) for name in sorted(classes) if name in saved}
    tools.progress.start("searching", len(classes), "classes")
    tools.progress.advance(len(found))
    for number, name in enumerate(sorted(classes), 1):
        if name not in found:
            asked = config.response * math.sqrt(CLASSES / max(CLASSES, number))
            others = [process.taps for process in found.values()]
            found[name] = _process(others, asked, config, tools.generator("process", name))
            tools.save("processes", lambda: {name: list(process) for name, process in found.items()}, every=10.0)
            tools.progress.advance(1, response=found[name].least)
    return found


def _process(others: list[Tensor], asked: float, config: Config, generator: torch.Generator) -> Process:
    """The first candidate to which all `others` respond as `asked`, else the one to which they respond most."""
    best = Process(torch.empty(0), -1.0)
    for number in range(0, MOST, DRAWN):
        drawn = torch.randn(DRAWN, 3, 8, generator=generator, dtype=torch.float64)
        drawn = (drawn / drawn.sum(-1, keepdim=True)).round(decimals=DECIMALS)
        for taps, maps in _bounded(drawn, config, generator):
            least = float(_responses(others, maps).min()) if others else math.inf
            best = max(best, Process(taps, least), key=lambda process: process.least)
            if least >= asked:
                return best
        if len(best.taps) and number + DRAWN >= config.candidates:
            return best
    raise UsageError(
        f"tile = {config.tile}: none of {MOST:,} processes stayed below the norm {config.bound:g}",
        hint="use a smaller tile or a larger bound",
    )


def _bounded(drawn: Tensor, config: Config, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """The processes all of whose maps keep the bound, each with its maps (TRIALS,3,T,T) of norm 1."""
    most = config.bound * config.tile / REFERENCE_SIDE
    maps: list[Tensor] = []
    for _ in range(TRIALS):
        trial = run(drawn, _noise(len(drawn), config.tile, generator), config.tile)
        norms = torch.linalg.vector_norm(trial, dim=(1, 2, 3))
        maps = [of_trial[norms <= most] for of_trial in [*maps, trial]]  # never so for NaN and infinity
        drawn = drawn[norms <= most]
    return [(taps, _unit(of_process)) for taps, of_process in zip(drawn, torch.stack(maps, 1), strict=True)]


def _responses(processes: list[Tensor], maps: Tensor) -> Tensor:
    """sum relu(filter * map), channels added up, of every process's filter on every map. (maps, K)"""
    return F.relu(F.conv2d(maps, filters(torch.stack(processes)))).sum((2, 3))


def filters(processes: Tensor) -> Tensor:
    """(K,3,8) -> (K,3,3,3), silent on maps of their own process: the windows with -1 in the last entry."""
    return F.pad(processes, (0, 1), value=-1.0).view(-1, 3, 3, 3)


def _noise(maps: int, side: int, generator: torch.Generator) -> Tensor:
    """The first two rows and columns of maps before the burn is cropped. (maps, 3, 4n - 4)"""
    return torch.randn(maps, 3, 4 * (side + BURN) - 4, generator=generator)


def _unit(maps: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(maps, dim=(1, 2, 3), keepdim=True)
    return maps / norms


# -- costs -------------------------------------------------------------------------------------------------


def passes(config: Config, images: int) -> float:
    """None: no network takes part."""
    return 0.0


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds: a search of some thousand candidates per class, then the maps."""
    tiles = len(data) * (-(-data.size // config.tile)) ** 2
    searched = config.candidates * len(data.classes) / 2
    return float((config.tile / REFERENCE_SIDE) ** 2 * 7e-5 * (searched + tiles))

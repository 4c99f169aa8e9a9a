"""Run by torchrun: a few steps of a prior, cut off after so many, and what each process has then, to a folder."""

import sys
from pathlib import Path

import torch
from toy import Toy

from ue_audit import ranks, together
from ue_audit.diffusion import fit, unet
from ue_audit.diffusion.prior import PriorConfig
from ue_audit.progress import Progress
from ue_audit.tools import Tools

PLAIN = {"attention": (), "middle_attention": False, "dropout": 0}
NETWORK = unet.Config(channels=16, multipliers=(1, 2), blocks=1, groups=8, **PLAIN)
CONFIG = PriorConfig(network=NETWORK, steps=6, batch=7, check_every=3, t_max=60, warmup=1, precision="float32")


class Cut(Progress):
    """Ends a training after some steps."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def advance(self, n: int = 1, **figures: float) -> None:
        self.left -= n
        if self.left < 0:
            raise InterruptedError


def train(place: Path, after: int) -> None:
    fit.CHECKPOINT_SECONDS = 0.0
    with together.in_step(torch.device("cpu")) as peers:
        tools = Tools(seed=3, work=place / "work", peers=peers, progress=Cut(after))
        try:
            prior = fit.train(Toy(classes=2, each=20, size=16), CONFIG, tools)
        except InterruptedError:
            return
        torch.save({"weights": prior.network.state_dict(), "notes": tools.notes}, place / f"{ranks.here().own}.pt")


if __name__ == "__main__":
    train(Path(sys.argv[1]), int(sys.argv[2]))

"""Which of the processes that torchrun started this one is. Without torchrun it is the only one. No torch."""

import os
from typing import NamedTuple

from ue_audit.errors import UsageError

TOGETHER = ("train-prior", "evaluate")  # stages that processes can share
INSTEAD = {"purify": "give each process a part of its own: purify --shard I/N, then merge"}

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


class Rank(NamedTuple):
    """The number of this process, among those of its machine, and how many there are. 0 leads."""

    own: int
    local: int
    world: int


def here() -> Rank:
    """As torchrun says. Raises UsageError where the processes are on several machines."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Rank(0, 0, 1)
    own, local, count, beside = (int(os.environ[name]) for name in VARIABLES)
    if beside != count:
        raise UsageError(
            f"expected all processes on one machine, found {beside} of {count} here",
            hint="start torchrun with --standalone and --nproc-per-node",
        )
    return Rank(own, local, count)


def leads() -> bool:
    """Whether this process speaks for all: the first that torchrun started, or the only one."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK") == "0"


def check(command: str) -> Rank:
    """This process's rank. Raises UsageError where several would do the same command, each for itself."""
    rank = here()
    if rank.world > 1 and command not in TOGETHER:
        raise UsageError(
            f"expected one process for {command}, found {rank.world}, started by torchrun",
            hint=INSTEAD.get(command, f"leave torchrun away; {' and '.join(TOGETHER)} can use several"),
        )
    return rank

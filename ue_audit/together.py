"""Processes of one machine, started by torchrun, that share a stage. Rank 0 leads: it alone locks, writes and speaks.

    evaluate      the leader hands out trainings one by one; the others train on their devices and answer
    train-prior   each process has its rows of every batch; gradients are summed, so that all take equal steps

What the leader did not call for is not begun, and when it is done the others are told. A process that fails ends all:
the leader raises its error, or torchrun stops the rest. Without torchrun there are no others.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ue_audit import errors, ranks
from ue_audit.errors import AuditError

POLL_SECONDS = 0.05  # a wait inside the store could not be interrupted, and would keep other threads from it
STEP_LIMIT = timedelta(hours=1)  # the others may judge or save meanwhile; who is late by more is gone
CALL, END = "call", "end"

Answer = dict[str, Any]


@cache
def _store() -> Any:
    """What all processes read and write; torchrun holds it."""
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://"))
    return store


def call() -> None:
    """The leader: the others are to begin."""
    if ranks.here().world > 1:
        _store().set(CALL, b"1")


def dismiss() -> None:
    """The leader, where there are others: nothing more to do."""
    _store().set(END, b"1")


def called() -> bool:
    """Another process: waits for the leader; False if there is nothing to do."""
    return _wait([CALL]) == CALL


def _wait(keys: Sequence[str], stopped: Callable[[], None] = lambda: None) -> str:
    """The first of the keys that is there, or END."""
    while True:
        for key in (*keys, END):
            if _store().check([key]):
                return key
        stopped()
        time.sleep(POLL_SECONDS)


# -- trainings ---------------------------------------------------------------------------------------------


class Hand:
    """Another process that trains for the leader."""

    def __init__(self, number: int) -> None:
        self._number, self._asked = number, 0

    def __call__(self, key: str, stopped: Callable[[], None]) -> Answer:
        """Its answer to one key, or the error it ended with; `stopped` raises where nobody waits for it any more."""
        asked, self._asked = self._asked, self._asked + 1
        _store().set(f"task/{self._number}/{asked}", key)
        place = f"answer/{key}"
        if _wait([place], stopped) == END:
            raise RuntimeError(f"process {self._number} was dismissed before it answered")
        answer: Answer = json.loads(_store().get(place))
        if "error" in answer:
            kind = getattr(errors, answer["error"], None)
            raise (kind or RuntimeError)(f"process {self._number}: {answer['message']}")
        return answer


@cache
def hands() -> tuple[Hand, ...]:
    """The other processes, for the leader: the same whenever it asks, since both sides count the tasks."""
    return tuple(Hand(number) for number in range(1, ranks.here().world))


def serve(work: Callable[[str], Answer]) -> None:
    """Another process: does `work` for each key that the leader sends, until it is dismissed. No key comes twice."""
    own, count = ranks.here().own, 0
    while _wait([task := f"task/{own}/{count}"]) == task:
        key = _store().get(task).decode()
        try:
            answer = work(key)
        except Exception as error:
            kind = type(error).__name__ if isinstance(error, AuditError) else "RuntimeError"
            _store().set(f"answer/{key}", json.dumps({"error": kind, "message": str(error)}))
            raise
        _store().set(f"answer/{key}", json.dumps(answer))
        count += 1


# -- steps -------------------------------------------------------------------------------------------------


class Peers:
    """Processes in step with each other: each has a part of a batch, and all get the same sums."""

    def __init__(self, own: int, count: int, device: torch.device) -> None:
        self.own, self.count, self._device = own, count, device

    def rows(self, n: int) -> slice:
        """This process's part of n rows."""
        return slice(self.own * n // self.count, (self.own + 1) * n // self.count)

    def add_up(self, parts: Sequence[Tensor]) -> None:
        """Each of the tensors becomes the sum of all processes', in place."""
        if self.count == 1:
            return
        flat = torch.cat([part.reshape(-1) for part in parts])
        torch.distributed.all_reduce(flat)
        for part, summed in zip(parts, torch.split(flat, [part.numel() for part in parts]), strict=True):
            part.copy_(summed.view_as(part))

    def agree(self, values: Sequence[float]) -> list[float]:
        """The leader's values, in every process."""
        if self.count == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self._device)
        torch.distributed.broadcast(shared, 0)
        return shared.tolist()


@contextmanager
def in_step(device: torch.device) -> Iterator[Peers]:
    """All processes, as peers while this lasts."""
    rank = ranks.here()
    if rank.world == 1:
        yield Peers(0, 1, device)
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group(
        backend, store=_store(), rank=rank.own, world_size=rank.world, timeout=STEP_LIMIT
    )
    try:
        yield Peers(rank.own, rank.world, device)
    finally:
        torch.distributed.destroy_process_group()

"""Who does the trainings of an evaluation: threads of this process, and the other processes of torchrun.

On a CPU every training has one thread and as many run as there are threads: that keeps all cores busy where one
training of a small network cannot, and makes a result independent of the number of cores. Other processes take one
training each, as they become free: on a GPU of their own, or with one thread.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

import torch

from ue_audit import together, trainings
from ue_audit.progress import SILENT, Progress
from ue_audit.stopwatch import Timer
from ue_audit.together import Hand
from ue_audit.trainings import Bar, Done, Exam, Training

AT_ONCE = 8  # trainings; more would cost memory before they gain time

Train = Callable[[Training], Done]
Saved = Callable[[], None]


def run_all(
    todo: Iterable[Training],
    epochs: int,
    exam: Exam,
    scratch: Path,
    progress: Progress,
    hands: Sequence[Hand] = (),
    saved: Saved = lambda: None,
) -> Iterator[Done]:
    """Every training as it ends; each is taken from `todo` when its turn comes, so that `todo` may end early.

    A failure or an interruption stops the others after their present epoch. `hands` are other processes that train.
    `saved` is called, by one thread at a time, whenever a training of this process has saved a state.
    """
    bar = Bar(progress, epochs)
    threads, on_cpu = torch.get_num_threads(), exam.device.type == "cpu"
    at_once = min(threads, AT_ONCE) if on_cpu else 1
    here: Train = partial(_timed, exam=exam, scratch=scratch, bar=bar, saved=_one_at_a_time(saved))
    if at_once == 1 and not hands:
        yield from map(here, todo)
        return
    free: SimpleQueue[Train] = SimpleQueue()
    for _ in range(at_once):
        free.put(here)
    for hand in hands:
        free.put(partial(_elsewhere, hand=hand, bar=bar))
    at_once += len(hands)
    pool = ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(1 if on_cpu else threads,))
    begun = (pool.submit(_where_free, free, training) for training in todo)
    try:
        waiting = set(islice(begun, at_once))
        while waiting:
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in ended)
            waiting |= set(islice(begun, at_once - len(waiting)))
    finally:
        bar.stopped.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def serve(possible: Iterable[Training], exam: Exam, scratch: Path) -> None:
    """Another process: train what the leader asks for, until it is done. As above, a CPU gives one thread to it."""
    if exam.device.type == "cpu":
        torch.set_num_threads(1)
    known, bar = {training.key: training for training in possible}, Bar(SILENT, 0)

    def work(key: str) -> dict[str, Any]:
        done = _timed(known[key], exam, scratch, bar, lambda: None)
        return {"record": done.record, "seconds": done.seconds}

    together.serve(work)


def _where_free(free: "SimpleQueue[Train]", training: Training) -> Done:
    """The training, by the first who is free."""
    place = free.get()
    try:
        return place(training)
    finally:
        free.put(place)


def _elsewhere(training: Training, hand: Hand, bar: Bar) -> Done:
    """The training in another process."""
    answer = hand(training.key, bar.check)
    bar.epochs(answer["record"]["epochs"], answer["record"]["last"])
    return Done(training, answer["record"], answer["seconds"])


def _one_at_a_time(saved: Saved) -> Saved:
    lock = Lock()

    def locked() -> None:
        with lock:
            saved()

    return locked


def _timed(training: Training, exam: Exam, scratch: Path, bar: Bar, saved: Saved) -> Done:
    timer = Timer(scratch / training.key)

    def keep() -> None:
        timer.keep()
        saved()

    record = trainings.train(training, exam, scratch, bar, keep)
    return Done(training, record, round(timer.seconds, 1))

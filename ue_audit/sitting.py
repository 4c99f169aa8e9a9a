"""One sitting of an evaluation: the trainings that are asked for and not recorded, as far as the time budget goes."""

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from ue_audit import agenda, crew, earlier, facts, manifest, shards, together, trainings
from ue_audit.additions import Asking
from ue_audit.progress import Progress
from ue_audit.settings import EvaluateSettings
from ue_audit.stopwatch import Timer
from ue_audit.tools import Tools
from ue_audit.trainings import Exam, Training


def asking(settings: EvaluateSettings, exam: Exam) -> Asking:
    """What the evaluation asks for, as far as is known before its records."""
    most = settings.max_seeds or settings.seeds
    possible = agenda.order(trainings.enumerate_all(exam, most, settings.seed))
    made = {name: found for name, path in exam.paths.items() if (found := manifest.find(path)) is not None}
    return Asking(possible, settings.seeds, facts.parents(exam.paths, made))


class Sitting:
    """Records of an evaluation under work, kept one by one; `seconds` is what each took, by key, over all sittings."""

    def __init__(self, work: shards.Work, exam: Exam, settings: EvaluateSettings, progress: Progress) -> None:
        self._work, self._exam, self._settings, self._progress = work, exam, settings, progress
        self._timer = timer(work)
        self._aside: dict[str, list[dict[str, Any]]] = {}
        self.seconds: dict[str, float] = (self._timer.restore("seconds") or {}).get("seconds", {})

    def hold(self, asking: Asking) -> list[Training]:
        """Train what is asked for, until nothing is or the budget ends; all that was asked for in the end."""
        asked, shown = asking.asked(self._work.done), 0
        unasked = self._work.done.keys() - {training.key for training in asked}
        self._aside = {key: self._work.done.pop(key) for key in unasked}
        if self._work.done:
            self._progress.say(f"{len(self._work.done)}/{len(asked)} trainings done, resuming")
        while len(asked) > shown:
            self._show(asked)
            shown = len(asked)
            self._train(asked)
            asked = asking.asked(self._work.done)
        self._progress.stop()
        if any(training.key not in self._work.done for training in asked):  # out of time: they may be asked for yet
            self._work.done |= {key: self._aside[key] for key in self._aside.keys() - self._work.done.keys()}
        self.seconds = {key: took for key, took in self.seconds.items() if key in self._work.done}
        return asked

    def _show(self, asked: list[Training]) -> None:
        self._places = trainings.places(asked, self._exam.paths)
        self._progress.matrix(list(self._places.values()))
        for key, records in self._work.done.items():
            self._progress.trained(self._places[key], records[0]["last"])

    def _train(self, asked: list[Training]) -> None:
        done = self._work.done
        todo: dict[str, Training] = {}
        for training in asked:
            if training.key not in done:
                todo.setdefault(training.content, training)  # equal trainings are done once, where the first stands
        for content, record, took in [*self._own(set(todo)), *earlier.known(self._settings.reuse, set(todo))]:
            self._keep(asked, content, record, took)
            todo.pop(content, None)
        if not todo:
            return
        epochs = sum(getattr(t.learner.chosen.config, "epochs", 1) for t in todo.values())
        affordable = takewhile(lambda t: self._fits(t, asked), todo.values())
        together.call()
        work, hands = self._work, together.hands()
        for ended in crew.run_all(affordable, epochs, self._exam, work.scratch, self._progress, hands, work.tick):
            self._keep(asked, ended.training.content, ended.record, ended.seconds)

    def _own(self, wanted: set[str]) -> Iterator[tuple[str, dict[str, Any], float]]:
        """(content, record, seconds) of trainings that another cell of equal images had before this one, or that were
        asked for before the evaluation grew: its rounds of added seeds begin anew."""
        for key, (record,) in [*self._work.done.items(), *self._aside.items()]:
            if record.get("content") in wanted:
                yield record["content"], record, self.seconds.get(key, 0.0)

    def _fits(self, training: Training, asked: list[Training]) -> bool:
        begun = Timer(self._work.scratch / training.key).before  # by a sitting that was killed: it counts once
        return agenda.fits(training, asked, self.seconds, self._work.elapsed() - begun, self._settings.budget)

    def _keep(self, asked: list[Training], content: str, record: dict[str, Any], took: float) -> None:
        """One result, for every training that has this content and is not yet recorded."""
        for training in asked:
            if training.content == content and training.key not in self._work.done:
                self.seconds[training.key] = took
                self._timer.save("seconds", lambda: {"seconds": self.seconds})
                self._work.commit(training.key, {}, [record | trainings.named(training)])
                self._progress.trained(self._places[training.key], record["last"])


def timer(work: shards.Work) -> Tools:
    """Where the seconds of the trainings are kept while an evaluation is under work."""
    return Tools(work=work.scratch)

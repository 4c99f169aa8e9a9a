"""Trainings side by side: keys, failures, and what stops the others."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from stand_ins import photos

from ue_audit import crew, imagefolder, lineup, trainings
from ue_audit.cells import Cell
from ue_audit.errors import NonFiniteError
from ue_audit.progress import SILENT
from ue_audit.tools import Epoch
from ue_audit.trainings import Exam


def take(path):
    return imagefolder.intake(imagefolder.scan(path)).data


@pytest.fixture
def exam(tmp_path):
    clean, other = (take(photos(tmp_path / name, seed=n)) for n, name in enumerate("ab"))
    cells = [Cell("clean", "a", None, clean), Cell("protected", "b", None, other)]
    learners = lineup.gather(("stand_ins.centroids",), {})
    return Exam(cells, learners, clean, other, "its own folder", {}, torch.device("cpu"))


def learner_of(exam, fit):
    own = exam.learners[0]
    return own._replace(chosen=own.chosen._replace(module=SimpleNamespace(fit=fit, NEEDS=())))


def keys(exam, seeds=2, seed=0):
    return [t.key for t in trainings.enumerate_all(exam, seeds, seed)]


def test_a_key_names_data_recipe_and_seed(exam):
    assert len(set(keys(exam))) == 4 and keys(exam) == keys(exam)
    assert not set(keys(exam)) & set(keys(exam, seed=1))
    longer = lineup.gather(("stand_ins.centroids",), {"flag": {"epochs": 3}})
    changed = Exam(exam.cells, longer, exam.val, exam.test, "", {}, exam.device)
    assert not set(keys(exam)) & set(keys(changed))
    swapped = Exam(exam.cells, exam.learners, exam.test, exam.val, "", {}, exam.device)
    assert not set(keys(exam)) & set(keys(swapped))


def test_more_seeds_keep_the_trainings_that_are_there(exam):
    assert keys(exam, seeds=3)[:4] == keys(exam, seeds=2)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_ends_all_and_frees_the_threads(exam, tmp_path, threads):
    def fit(data, config, tools):
        yield Epoch(1, 1.0, lambda x: torch.zeros(len(x), 3))
        loss = float("nan") if data.pixels is exam.cells[1].data.pixels else 1.0
        yield Epoch(2, loss, lambda x: torch.zeros(len(x), 3))

    broken = learner_of(exam, fit)
    bad = Exam(exam.cells, [broken], exam.val, exam.test, "", {}, exam.device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with pytest.raises(NonFiniteError, match="became nan in epoch 2"):
        list(crew.run_all(trainings.enumerate_all(bad, 2, 0), 8, bad, Path(tmp_path), SILENT))
    assert torch.get_num_threads() == threads
    torch.set_num_threads(before)


def test_learners_see_the_clean_images_beside_their_own_and_their_notes_are_kept(exam, tmp_path):
    def fit(data, config, tools):
        tools.note("probe", "own" if data.clean is None else data.clean.keys[0])
        assert torch.equal(data.clean.batch([0]), exam.cells[0].data.batch([0]))
        yield Epoch(2, 1.0, lambda x: torch.zeros(len(x), 3))

    noting = learner_of(exam, fit)
    seen = Exam(exam.cells, [noting], exam.val, exam.test, "", {}, exam.device)
    counted = Counted()
    done = list(crew.run_all(trainings.enumerate_all(seen, 1, 0), 4, seen, Path(tmp_path), counted))
    assert [d.record["notes"]["probe"] for d in done] == ["class0/000.png"] * 2
    assert counted.total == 4  # an epoch that stands for two moves the bar by two


@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_is_begun_when_its_turn_comes(exam, tmp_path, threads):
    """The list may end early: none is begun that was not asked for, and those begun are finished."""
    planned, asked, done = list(trainings.enumerate_all(exam, 3, 0)), [], []

    def todo():
        for training in planned:
            if len(done) >= 2:
                return
            asked.append(training.key)
            yield training

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    for ended in crew.run_all(todo(), 12, exam, Path(tmp_path), SILENT):
        done.append(ended.training.key)
    torch.set_num_threads(before)
    assert sorted(done) == sorted(asked) and len(done) <= 2 + threads - 1


class Counted(type(SILENT)):
    total = 0

    def advance(self, n=1, **figures):
        self.total += n

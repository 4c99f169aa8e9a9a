"""An output that is one file: begun, unfinished, sealed, foreign; and killed at every step of sealing."""

import pytest

from ue_audit import manifest, storage
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.filework import FileWork
from ue_audit.statement import statement


def finish(output, data=b"weights", **parameters):
    work = FileWork.open(output, {"seed": 0} | parameters)
    return work.finish(data, statement(stage="train-prior", method="ddpm"))


def test_sealed_is_complete_and_leaves_nothing_else(tmp_path):
    path = finish(tmp_path / "a.ckpt")
    assert path.read_bytes() == b"weights"
    assert FileWork.open(path, {"seed": 0}).complete
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ckpt", "a.ckpt.ue-audit.json"]
    assert manifest.verify(path).problems == []


def test_unfinished_work_is_known_by_its_parameters(tmp_path):
    first = FileWork.open(tmp_path / "a.ckpt", {"seed": 0})
    assert not first.complete and first.resumed == 0
    again = FileWork.open(tmp_path / "a.ckpt", {"seed": 0})
    assert again.resumed == 1 and again.started == first.started
    with pytest.raises(UsageError) as refused:
        FileWork.open(tmp_path / "a.ckpt", {"seed": 1})
    assert any(line.startswith("seed") for line in refused.value.details)


@pytest.mark.parametrize("step", ["write", "rename", "sync"])
def test_an_interruption_at_any_step_of_sealing_loses_nothing(tmp_path, monkeypatch, step):
    real = getattr(storage, step)
    for fatal in range(1, 9):
        output = tmp_path / f"{step}{fatal}.ckpt"
        FileWork.open(output, {"seed": 0})
        count = 0

        def dies(*arguments, fatal=fatal):
            nonlocal count
            count += 1
            if count == fatal:
                raise KeyboardInterrupt
            return real(*arguments)

        monkeypatch.setattr(storage, step, dies)
        try:
            finish(output)
        except KeyboardInterrupt:
            monkeypatch.setattr(storage, step, real)
            assert not FileWork.open(output, {"seed": 0}).complete
            finish(output)
        monkeypatch.setattr(storage, step, real)
        assert manifest.verify(output).problems == []
        assert FileWork.open(output, {"seed": 0}).complete


def test_damage_and_foreign_files_are_told_apart(tmp_path):
    path = finish(tmp_path / "a.ckpt")
    path.write_bytes(b"other")
    with pytest.raises(IntegrityError):
        FileWork.open(path, {"seed": 0})
    (tmp_path / "mine").write_bytes(b"mine")
    with pytest.raises(UsageError):
        FileWork.open(tmp_path / "mine", {"seed": 0})

def test_the_time_of_a_sitting_that_was_killed_counts_as_far_as_it_was_saved(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    work = FileWork.open(tmp_path / "a.ckpt", {"seed": 0})
    now[0] += 30
    work.tick()
    now[0] += 5  # lost: nothing was saved in it
    again = FileWork.open(tmp_path / "a.ckpt", {"seed": 0})
    now[0] += 2
    assert again.elapsed() == 32
    path = again.finish(b"weights", statement(stage="train-prior", method="ddpm"))
    assert manifest.read(path).run.seconds == 32
    fresh = FileWork.open(path, {"seed": 0}, fresh=True)
    assert fresh.elapsed() == 0

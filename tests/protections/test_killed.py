"""Every protection, killed after a state was saved and run again: byte for byte the unbroken run.

One point in mid-crafting in every run of the tests; with UE_AUDIT_SLOW=1 after every save.
"""

import os
import shutil
import signal

import pytest
import torch
from protections.test_contract import EVERY, files, run
from stand_ins import owner

from ue_audit.tools import Tools

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and signals")
SLOW = os.environ.get("UE_AUDIT_SLOW") == "1"
SAVE = Tools.save


def saving(monkeypatch, after):
    """Save whenever a method offers its state, however soon, and call `after(count)` behind each one."""
    count = 0

    def save(self, name, state, every=0.0):
        nonlocal count
        SAVE(self, name, state)
        count += 1
        after(count)

    monkeypatch.setattr(Tools, "save", save)


def killed(monkeypatch, k, work):
    """Whether a forked child that runs `work` kills itself behind its k-th save."""
    child = os.fork()
    if child == 0:
        saving(monkeypatch, lambda count: os.kill(os.getpid(), signal.SIGKILL) if count == k else None)
        try:
            work()
        finally:
            os._exit(1)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@EVERY
def test_killed_behind_a_save_and_run_again_is_the_unbroken_run(name, tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a fork does not inherit the threads of a pool
    owner(tmp_path / "data", each=6, size=16)
    saves = []
    with monkeypatch.context() as patch:
        saving(patch, saves.append)
        unbroken = files(run(tmp_path, name))
    points = range(1, len(saves) + 1) if SLOW else [len(saves) // 2] if len(saves) > 1 else []
    for k in points:
        shutil.rmtree(tmp_path / "out")
        assert killed(monkeypatch, k, lambda: run(tmp_path, name, fresh=False))
        assert (tmp_path / "out.work").is_dir()
        out = run(tmp_path, name, fresh=False)
        assert files(out) == unbroken, f"killed behind save {k} of {len(saves)}"
    torch.set_num_threads(threads)

"""A function in a process of its own: its seconds there, and the most memory that the process ever held.

`run("ue_audit.benches.plain:save", folder=..., ...)` starts `python -m ue_audit.benches.child`, which imports the
function, calls it once and prints one JSON document. Arguments and result are plain values. Memory is the device's on
a CUDA GPU, else the process's, its libraries included: what torch alone takes stands among the machine's facts.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import ue_audit
from ue_audit.errors import AuditError

STATUS = Path("/proc/self/status")


class Ended(NamedTuple):
    seconds: float
    peak_memory: int | None
    result: Any


def run(function: str, **arguments: Any) -> Ended:
    """Call "module:function" in a new process. Raises AuditError with the end of what it said if it failed."""
    root = str(Path(ue_audit.__file__).parents[1])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    words = [sys.executable, "-m", __name__, function, json.dumps(arguments)]
    env = os.environ | {"PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8"}
    ended = subprocess.run(words, capture_output=True, encoding="utf-8", env=env, stdin=subprocess.DEVNULL)
    if ended.returncode:
        raise AuditError(f"{function} failed in its own process", details=ended.stderr.splitlines()[-10:])
    return Ended(**json.loads(ended.stdout.splitlines()[-1]))


def peak_memory() -> int | None:
    """Bytes, the most this process has held; None where the system does not say (Windows).

    Linux has it in /proc: what `getrusage` says there starts with the memory of the process that started this one.
    """
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            return torch.cuda.max_memory_allocated()
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="ascii")) if STATUS.exists() else None
    if found:
        return 1024 * int(found[1])
    if sys.platform != "win32":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return None


def nothing() -> None:
    """What a process holds that has loaded torch and done nothing."""
    import torch  # noqa: F401


def main(function: str, arguments: str) -> None:
    module, _, name = function.partition(":")
    call, given = getattr(importlib.import_module(module), name), json.loads(arguments)
    if str(given.get("device")).startswith("cuda"):
        import torch

        torch.zeros(1, device=given["device"])  # a GPU takes a second to wake, which is no stage's
    start = time.perf_counter()
    result = call(**given)
    ended = Ended(time.perf_counter() - start, peak_memory(), result)
    print(json.dumps(ended._asdict()))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""`Tools`: all a method gets beside its data and its configuration. No paths, no printing, no global state."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ue_audit import ranks, storage
from ue_audit.errors import IntegrityError, ResourceError, UsageError
from ue_audit.progress import SILENT, Progress
from ue_audit.systems import patiently
from ue_audit.together import Peers


class Epoch(NamedTuple):
    """What a learner yields after each epoch: its number (from 1), mean training loss, and the classifier."""

    number: int
    loss: float
    predict: Callable[[torch.Tensor], torch.Tensor]  # (B,3,S,S) in [0,1] -> logits (B,K) float32


class Batch(NamedTuple):
    """What a purifier gets: pixels (B,3,S,S) in [0,1], labels (B,) or None, row numbers, relative paths."""

    x: torch.Tensor
    labels: torch.Tensor | None
    rows: torch.Tensor
    keys: list[str]


def substream(seed: int, *names: object) -> int:
    """A 63-bit seed that depends on nothing but the run's seed and the names: the root of all randomness."""
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


class Tools:
    """Device, named random substreams, progress, arrays and exact resume in the stage's work folder.

    `peers` are the processes that do the same in step; the first alone saves. `saved` is called after each save.
    """

    def __init__(
        self,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        work: Path | None = None,
        weights: Mapping[str, Path] | None = None,
        progress: Progress = SILENT,
        eps: float | None = None,
        peers: Peers | None = None,
        saved: Callable[[], None] = lambda: None,
    ) -> None:
        self.device = torch.device(device)
        self.peers = peers or Peers(0, 1, self.device)
        self.seed = seed
        self.progress = progress
        self.eps = eps  # of the protection to take out, in the range [0,1], where it is known
        self.notes: dict[str, Any] = {}
        self._work = work
        self._weights = dict(weights or {})
        self._saved: dict[str, float] = {}
        self._tell = saved

    def generator(self, *names: object) -> torch.Generator:
        """A CPU generator for a named substream; equal names give equal numbers on every device."""
        return torch.Generator().manual_seed(substream(self.seed, *names))

    def note(self, key: str, value: Any) -> None:
        """Put a fact into the manifest: rounds used, threshold not met, the perceptual guide."""
        self.notes[key] = value

    def warn(self, text: str) -> None:
        """Tell the owner, in the manifest and at the end of the command."""
        self.note("warnings", [*self.notes.get("warnings", []), text])

    def array(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """A zeroed array, memory-mapped in the work folder (kept across a resume) or in memory without one."""
        if self._work is None:
            return np.zeros(shape, dtype)
        path = self._work / f"{name}.npy"
        with contextlib.suppress(OSError, ValueError):  # absent, or torn by a kill while it was made
            found = np.lib.format.open_memmap(path, mode="r+")
            if found.shape == shape and found.dtype == np.dtype(dtype):
                return found
            del found  # Windows makes no file anew that is mapped
        self._work.mkdir(parents=True, exist_ok=True)
        with storage.resources(path):
            made = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
            with path.open("r+b") as file:
                storage.reserve(file.fileno(), path.stat().st_size)
        return made

    def save(self, name: str, state: Callable[[], dict[str, Any]], every: float = 0.0) -> None:
        """Keep `state()` (tensors and plain values) for `restore`, at most once in `every` seconds."""
        now = time.monotonic()
        if self._work is None or self.peers.own or now - self._saved.setdefault(name, now) < every:
            return
        self._work.mkdir(parents=True, exist_ok=True)
        draft = self._work / f"{name}.state.tmp"
        torch.save(state(), draft)
        target = self._work / f"{name}.state"
        patiently(lambda: draft.replace(target))
        self._saved[name] = time.monotonic()
        self._tell()

    def restore(self, name: str) -> dict[str, Any] | None:
        """The last saved state of that name, or None. Raises IntegrityError if it cannot be read."""
        path = None if self._work is None else self._work / f"{name}.state"
        if path is None or not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise IntegrityError(
                f"the saved state {name!r} cannot be read: {error}", hint="start over with --fresh"
            ) from error
        return state

    def weights(self, name: str) -> Path | None:
        """Where the stage found the weights called `name` ("prior", "lpips"), or None."""
        return self._weights.get(name)

    def require_weights(self, name: str, hint: str) -> Path:
        """As `weights`, but missing ones are a ResourceError with the command that gets them."""
        path = self.weights(name)
        if path is None:
            raise ResourceError(f"the weights {name!r} are needed and were not found", hint=hint)
        return path


def pick_device(name: str) -> torch.device:
    """"auto" is the first accelerator, else the CPU; a device asked for and missing is a ResourceError.

    Of several processes that torchrun started each has a GPU of its own.
    """
    mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if name.startswith("cuda") and ranks.here().world > 1:
        if name != "cuda":
            raise UsageError(
                f"expected --device cuda under torchrun, found {name}: all processes would share one GPU",
                hint="choose GPUs with CUDA_VISIBLE_DEVICES; each process takes one of those",
            )
        name = f"cuda:{ranks.here().local}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device expects auto, cpu, cuda, cuda:n or mps, found {name!r}") from error
    there = {"cpu": True, "cuda": torch.cuda.device_count() > (device.index or 0), "mps": mps}
    if not there.get(device.type, False):
        raise ResourceError(f"the device {name!r} was asked for and is not there", hint="use --device auto")
    return device

"""What the times were taken on: device, threads, memory, load, versions, date."""

import contextlib
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ue_audit import doctor
from ue_audit.benches import child

BUSY = 0.25  # of the cores: a load above it when the bench begins is told
CPU = Path("/proc/cpuinfo")


def describe(device: torch.device) -> dict[str, Any]:
    """Plain values; what the system does not say is None."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cores = os.cpu_count() or 1
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": _cpu(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "memory": _memory(),
        "load": load,
        "busy": load is not None and load > BUSY * cores,
        "bf16": _bf16(device),
        "process_memory": child.run(f"{child.__name__}:nothing").peak_memory,
        "versions": doctor.versions(),
    }


def _cpu() -> str:
    """The name the system gives, else the architecture."""
    found = re.search(r"model name\s*:\s*(.+)", CPU.read_text(encoding="utf-8")) if CPU.exists() else None
    capable: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    units = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if capable.get(name)]
    return " ".join([found[1] if found else platform.machine(), *units])


def _memory() -> int | None:
    if hasattr(os, "sysconf"):
        with contextlib.suppress(ValueError, OSError):
            return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return None


def _bf16(device: torch.device) -> bool:
    from ue_audit.diffusion.precision import favours_bf16

    return favours_bf16(device)

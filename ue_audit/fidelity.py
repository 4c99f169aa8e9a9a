"""How far purified images lie from their input and from the clean originals: one set of figures per image."""

import math
from pathlib import Path
from typing import Any

import torch

from ue_audit import cells, distances, imagefolder, manifest
from ue_audit.imagefolder import ImageData
from ue_audit.training import perceptual

BANDS = ("residual_low", "residual_mid", "residual_high")


class Measure:
    """Figures per image: against the input, and against the clean originals where they can be found."""

    def __init__(
        self, clean: Path | None, source: Path, data: ImageData, lpips: Path | None, device: torch.device
    ) -> None:
        fits = data.size >= perceptual.SMALLEST_SIDE["alex"]
        self._lpips = perceptual.Lpips(lpips).to(device) if lpips is not None and fits else None
        self._device = device
        clean = clean or manifest.clean_of(source) or source
        self._from_clean = clean.resolve() == source.resolve()
        self._clean = data if self._from_clean else _originals(clean, source, data)

    def __call__(self, rows: range, x_in: torch.Tensor, x_le: torch.Tensor) -> list[dict[str, Any]]:
        figures = {"linf": (distances.linf(x_in, x_le) * 255).round(), "l2": distances.l2(x_in, x_le)}
        figures["psnr"] = distances.psnr(x_in, x_le)
        if self._clean is not None:
            x = self._clean.batch(torch.arange(rows.start, rows.stop))
            figures |= {"psnr_clean": distances.psnr(x, x_le)} | self._likeness("clean", x, x_le)
            figures |= dict(zip(BANDS, distances.bands(x_le - x).unbind(1), strict=True))
            if not self._from_clean:
                figures["residual_correlation"] = distances.residual_correlation(x, x_in, x_le)
                figures |= self._likeness("protected_clean", x, x_in)
        columns = {name: [_plain(value) for value in values.tolist()] for name, values in figures.items()}
        return [{name: column[i] for name, column in columns.items()} for i in range(len(rows))]

    def _likeness(self, name: str, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        found = {f"ssim_{name}": distances.ssim(x, y)}
        if self._lpips is not None:
            found[f"lpips_{name}"] = self._lpips(x.to(self._device), y.to(self._device)).cpu()
        return found


def _originals(clean: Path, source: Path, data: ImageData) -> ImageData | None:
    """The clean images in the order of `data`, or None when one of them is not there."""
    if not clean.is_dir():
        return None
    originals = imagefolder.intake(imagefolder.scan(clean, flat=None), size=data.size).data
    rows, known = {key: row for row, key in enumerate(originals.keys)}, cells.original_keys(source)
    keys = [known.get(key, key) for key in data.keys]
    return originals.take([rows[key] for key in keys]) if all(key in rows for key in keys) else None


def _plain(value: float) -> float | None:
    """A figure for a record; infinity (equal images) and NaN (no delta) are absent."""
    return round(value, 6) if math.isfinite(value) else None

"""JPEG: encode, decode; ISS against high-frequency perturbations.

    x_le = decode(encode(x_ue))                 `quality`, `subsampling`, baseline, standard tables

The quantised cosine transform of 8x8 blocks drops what little a perturbation has in each high frequency, and
4:2:0 keeps a quarter of the colour. Pillow's encoder; the decoder is libjpeg's, which images are decoded with anyway.

Published on CIFAR-10, ResNet-18, at quality 10 (ISS; in brackets without): clean 85.4 (94.7), EMN 81.5 (21.1), REMN
81.5 or 82.3 (25.4), TAP 83.9 (8.2), LSP 83.0 (19.1), AR 85.2 (13.3), OPS 82.5 (36.6). Its price is the 9 points that it
takes from clean images, which `passes` do not show: look at the ceiling.
"""

import io
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from PIL import Image, features
from pydantic import Field
from torch import Tensor

from ue_audit import config as base
from ue_audit.imagedata import to_float, to_uint8
from ue_audit.tools import Batch, Tools

SOURCE = "ISS (Liu et al.), arXiv 2301.13838, JPEG"
IN_WORDS = "saves the images again as JPEG files of very low quality"
NEEDS = ()


class Config(base.Config):
    quality: int = Field(10, ge=1, le=100)  # Pillow's scale; no file at 100 is free of loss
    subsampling: Literal["4:2:0", "4:2:2", "4:4:4"] = "4:2:0"  # of colour; Pillow's default


def passes(config: Config, images: int) -> float:
    """No network."""
    return 0.0


def build(data: Any, config: Config, tools: Tools) -> Callable[[Batch], Tensor]:
    """purify(batch) -> x_le."""
    tools.note("libjpeg", features.version_feature("libjpeg_turbo") or features.version_codec("jpg"))

    def purify(batch: Batch) -> Tensor:
        pixels = [_recode(image, config) for image in to_uint8(batch.x)]
        return to_float(np.stack(pixels)).to(batch.x.device)

    return purify


def _recode(pixels: np.ndarray, config: Config) -> np.ndarray:
    """(H,W,3) uint8 through a JPEG file in memory."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=config.quality, subsampling=config.subsampling)
    with Image.open(file) as image:
        return np.asarray(image)

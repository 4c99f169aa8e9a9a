"""Counter-based noise: a number is a function of (seed, image, pass, step, place) and of nothing else.

Philox4x32-10 (Salmon et al., SC 2011) turns a 128-bit counter (block of 4 values, step, pass, use) under an
image's 64-bit key into 128 random bits, and Box-Muller turns those into 4 normals. So what an image gets does
not depend on batch, order, shard, worker or resumption. The bits are the same everywhere. The normals are
computed in float64 and rounded to float32, so that another math library or device moves the last digit of
about one value in 10^8.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ue_audit.tools import substream

LOW = 0xFFFFFFFF  # 32 bits of 64
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
CHUNK = 64  # images at once on a CPU: the words stay in its cache

Words = tuple[Tensor, Tensor, Tensor, Tensor]


class Stream:
    """The noise of a batch of images: `stream(number of the pass, step)` -> normals (B,C,H,W), float32.

    The chain's own noise is of `use` 0; what else a step draws has another.
    """

    def __init__(self, seed: int, keys: list[str], shape: Sequence[int], device: torch.device | str) -> None:
        images = [substream(seed, "noise", key) for key in keys]
        self.images = torch.tensor(images, dtype=torch.int64)  # (B,)
        self.shape = tuple(shape)
        self.device = torch.device(device)

    def __call__(self, number: int, step: int, use: int = 0) -> Tensor:
        on_gpu = self.device.type == "cuda"  # other accelerators lack float64
        images = self.images.to(self.device) if on_gpu else self.images
        chunk = len(images) if on_gpu else CHUNK
        values = [
            _normals(images[start : start + chunk], (step, number, use), math.prod(self.shape))
            for start in range(0, len(images), chunk)
        ]
        return torch.cat(values).view(-1, *self.shape).to(self.device)


def _normals(images: Tensor, place: tuple[int, int, int], count: int) -> Tensor:
    """(B, count) normals of images with 64-bit keys (B,)."""
    block = torch.arange(-(-count // 4), device=images.device)[None]  # (1, count / 4)
    words = (torch.full_like(block[:, :1], word) for word in place)
    key = (images[:, None] & LOW, (images[:, None] >> 32) & LOW)  # (B, 1) each
    return normals(philox((block, *words), key)).flatten(1)[:, :count]  # type: ignore[arg-type]


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Philox4x32-10: 4 random words for a counter of 4 and a key of 2; words are int64 in 0..2^32 - 1."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # modulo 2^64
        c0, c2 = (product1 >> 32) & LOW ^ c1 ^ k0, (product0 >> 32) & LOW ^ c3 ^ k1
        c1, c3 = product1 & LOW, product0 & LOW
        k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
    return c0, c1, c2, c3


def normals(words: Words) -> Tensor:
    """Box-Muller: 4 words of shape (...) -> 4 standard normals (..., 4), float32."""
    return torch.cat([_box_muller(words[0], words[1]), _box_muller(words[2], words[3])], -1)


def _box_muller(first: Tensor, second: Tensor) -> Tensor:
    uniform = (first.double() + 0.5) * 2.0**-32  # in (0, 1), so the logarithm is finite
    radius = uniform.log().mul_(-2).sqrt_()
    angle = second.double() * (2 * math.pi * 2.0**-32)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1).float()

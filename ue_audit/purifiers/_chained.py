"""A chain of purifiers, `median+jcdp`: each link gets what the link before it would have written.

    x_0 = x_ue,   x_k = round8(link_k(x_{k-1})),   x_le = link_K(x_{K-1})

`round8` rounds to 8 bits, so that a chain of links without noise equals their stages one after the other, byte for
byte. A link that looks at the whole set sees all x_{k-1}: they are made once, when it first asks, and used again when
it is the images' turn. Every link has one field of settings under its name, notes and saved states of its own, and
noise of its own; the first link draws what it would draw alone.
"""

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field, create_model
from torch import Tensor

from ue_audit import config as base
from ue_audit.errors import UsageError
from ue_audit.imagedata import ImageData, to_float, to_uint8
from ue_audit.tools import Batch, Tools, substream

Purify = Callable[[Batch], Tensor]
Links = Mapping[str, ModuleType]  # field of the settings -> module
PIXELS = 2**19  # of a batch, when images are made for a link that sees the whole set
SAVE_SECONDS = 30.0


class Config(base.Config):
    """The links' configurations, each in a field of its own."""

    @property
    def weights(self) -> str | None:
        """The file for LPIPS that a link names. Raises UsageError if links name two."""
        named = [getattr(getattr(self, field), "weights", None) for field in type(self).model_fields]
        files = sorted({str(file) for file in named if file is not None})
        if len(files) > 1:
            raise UsageError(f"the links of a chain share one file for LPIPS, found {', '.join(files)}")
        return files[0] if files else None


def chain(name: str, links: Links) -> ModuleType:
    """A purifier that runs `links` in order."""
    fields: dict[str, Any] = {field: (link.Config, Field(default_factory=link.Config)) for field, link in links.items()}
    module = ModuleType(name, f"A chain of purifiers: {', then '.join(links)}.")
    vars(module).update(
        SOURCE=" + ".join(link.SOURCE for link in links.values()),
        NEEDS=tuple(dict.fromkeys(need for link in links.values() for need in link.NEEDS)),
        Config=create_model("Config", __base__=Config, **fields),
        passes=partial(passes, links),
        follows_eps=partial(follows_eps, links),
        settle=partial(settle, links),
        build=partial(build, links),
    )
    return module


def passes(links: Links, config: Any, images: int) -> float:
    """Those of all links together."""
    return float(sum(link.passes(getattr(config, field), images) for field, link in links.items()))


def follows_eps(links: Links, config: Any) -> bool:
    """Whether a link's result depends on the budget of the protection."""
    return any(link.follows_eps(getattr(config, f)) for f, link in links.items() if hasattr(link, "follows_eps"))


def settle(links: Links, config: Any, tools: Tools) -> Any:
    """The configuration with what its links find out before they start."""
    settled = {
        field: link.settle(getattr(config, field), _LinkTools(tools, field, position))
        for position, (field, link) in enumerate(links.items())
        if hasattr(link, "settle")
    }
    return config.model_copy(update=settled)


class Link(NamedTuple):
    """A purifier of a chain and the set that it purifies."""

    data: Any
    purify: Purify


def build(links: Links, data: Any, config: Any, tools: Tools) -> Purify:
    """purify(batch) -> x_le."""
    built: list[Link] = []
    for position, (field, module) in enumerate(links.items()):
        own = _LinkTools(tools, field, position)
        before = Between(built[-1], own) if built else data
        built.append(Link(before, module.build(before, getattr(config, field), own)))

    def purify(batch: Batch) -> Tensor:
        for link, after in zip(built, built[1:], strict=False):
            x = after.data.made_of(batch)
            batch = batch._replace(x=_rounded(link.purify(batch)) if x is None else x.to(batch.x.device))
        return built[-1].purify(batch)

    return purify


class Between(ImageData):
    """The images between two links: those of `link`'s set, purified by it, made when the next link looks at them."""

    def __init__(self, link: Link, tools: Tools) -> None:
        vars(self).update({name: value for name, value in vars(link.data).items() if name != "pixels"})
        self._link, self._tools = link, tools

    @cached_property
    def pixels(self) -> np.ndarray:  # type: ignore[override]
        """(N,S,S,3) uint8. Kept, with how far they are made, in the work folder."""
        made = self._tools.array("before", (len(self), self.size, self.size, 3), "uint8")
        start = int((self._tools.restore("before") or {"rows": 0})["rows"])
        each = max(1, PIXELS // self.size**2)
        for first in range(start, len(self), each):
            rows = torch.arange(first, min(first + each, len(self)))
            made[first : first + len(rows)] = to_uint8(self._link.purify(self._batch(rows)))
            self._keep(made, first + len(rows))
        return made

    def made_of(self, batch: Batch) -> Tensor | None:
        """What has been made of just these images, if the whole set has been made; else None."""
        rows = batch.rows.tolist()
        if "pixels" not in vars(self) or [self.keys[row] for row in rows] != batch.keys:
            return None
        same = torch.equal(to_float(self._link.data.pixels[rows]), batch.x.cpu())
        return self.batch(rows) if same else None

    def _batch(self, rows: Tensor) -> Batch:
        labels = None if self.labels is None else self.labels[rows]
        return Batch(self._link.data.batch(rows), labels, rows, [self.keys[row] for row in rows.tolist()])

    def _keep(self, made: np.ndarray, rows: int) -> None:
        """`rows` of them are made; they are on disk before it says so."""

        def state() -> dict[str, Any]:
            if isinstance(made, np.memmap):
                made.flush()
            return {"rows": rows}

        self._tools.save("before", state, every=0.0 if rows == len(self) else SAVE_SECONDS)


class _LinkTools(Tools):
    """The chain's tools with names, notes and, behind the first link, random numbers of the link's own."""

    def __init__(self, whole: Tools, name: str, position: int) -> None:
        vars(self).update(vars(whole))
        self.notes = whole.notes.get(name, {})
        self.seed = substream(whole.seed, "link", position) if position else whole.seed
        self._whole, self._name = whole, name

    def note(self, key: str, value: Any) -> None:
        super().note(key, value)
        self._whole.note(self._name, self.notes)

    def warn(self, text: str) -> None:
        self._whole.warn(f"{self._name}: {text}")

    def array(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return self._whole.array(f"{self._name}.{name}", shape, dtype)

    def save(self, name: str, state: Callable[[], dict[str, Any]], every: float = 0.0) -> None:
        self._whole.save(f"{self._name}.{name}", state, every)

    def restore(self, name: str) -> dict[str, Any] | None:
        return self._whole.restore(f"{self._name}.{name}")


def _rounded(x: Tensor) -> Tensor:
    """x as a file holds it."""
    return to_float(to_uint8(x)).to(x.device)

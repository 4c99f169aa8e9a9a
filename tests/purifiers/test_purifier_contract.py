"""Every registered purifier on tiny data: what it returns, what it may depend on, and what it refuses.

A method's quick settings are `QUICK` in its own test file, if it needs any.
"""

import importlib
import math
from functools import cache

import numpy as np
import pytest
import torch

from ue_audit import methods
from ue_audit.errors import UsageError
from ue_audit.imagedata import ImageData, to_uint8
from ue_audit.tools import Batch, Tools

NAMES = methods.names("purifier")
SEEDED = {"random_noise", "ddpm", "jcdp"}  # methods that draw for each image
EVERY = pytest.mark.parametrize("name", NAMES)
IMAGES = 12
SIZE = 16  # of the prior


def quick(name):
    """The settings of its test file; networks in float32, in which a batch is not felt."""
    try:
        found = dict(getattr(importlib.import_module(f"purifiers.test_{name}"), "QUICK", {}))
    except ModuleNotFoundError:
        found = {}
    fields = methods.load("purifier", name).Config.model_fields
    return ({"precision": "float32"} if "precision" in fields else {}) | found


@cache
def images(size=16, labelled=True):
    """Two classes, told apart by a tint, in an order that is not that of the names."""
    rng = np.random.default_rng(0)
    numbers = rng.permutation(np.arange(IMAGES) % 2).tolist()
    pixels = rng.integers(40, 216, (IMAGES, size, size, 3)) + 20 * np.array(numbers)[:, None, None, None]
    keys = [f"{'ab'[k] if labelled else ''}/{i:02d}.png" for i, k in zip(rng.permutation(IMAGES), numbers, strict=True)]
    return ImageData(pixels.astype(np.uint8), keys, ("a", "b") if labelled else (), numbers if labelled else None)


def batch(data, rows):
    rows = torch.tensor(list(rows))
    labels = None if data.labels is None else data.labels[rows]
    return Batch(data.batch(rows), labels, rows, [data.keys[row] for row in rows.tolist()])


@pytest.fixture
def build(prior_file):
    def building(name, data, seed=0, work=None):
        chosen = methods.configure("purifier", name, {"flag": quick(name)})
        tools = Tools(seed=seed, work=work, weights={"prior": prior_file} if "prior" in chosen.module.NEEDS else {})
        return chosen.module.build(data, chosen.config, tools)

    return building


def close(one, other):
    """Equal but for the last digit of a sum: at most one level, in at most one value of a thousand."""
    differ = abs(one.astype(int) - other)
    return differ.max() <= 1 and (differ > 0).mean() <= 1e-3


@EVERY
@pytest.mark.parametrize("size", [16, 24])
def test_what_comes_back(name, size, build):
    data = images(size)
    pixels, given = data.pixels.copy(), batch(data, range(IMAGES))
    before = given.x.clone()
    x_le = build(name, data)(given)
    assert x_le.shape == before.shape and x_le.dtype == torch.float32 and x_le.device == before.device
    assert float(x_le.min()) >= 0 and float(x_le.max()) <= 1 and not x_le.requires_grad
    assert torch.equal(given.x, before) and (data.pixels == pixels).all()
    assert (to_uint8(x_le) != data.pixels).any()


@EVERY
def test_seed(name, build):
    given = batch(images(), range(IMAGES))
    first = to_uint8(build(name, images())(given))
    assert (to_uint8(build(name, images())(given)) == first).all()
    assert name not in SEEDED or (to_uint8(build(name, images(), seed=1)(given)) != first).any()


@EVERY
def test_company_and_order_do_not_matter(name, build):
    data = images()
    purify = build(name, data)
    together = to_uint8(purify(batch(data, range(IMAGES))))
    backwards = to_uint8(purify(batch(data, reversed(range(IMAGES)))))[::-1]
    parts = [purify(batch(data, rows)) for rows in ([0], [1, 2, 3], range(4, IMAGES))]
    assert close(backwards, together) and close(to_uint8(torch.cat(parts)), together)


@EVERY
def test_the_order_of_files_does_not_matter(name, build):
    """The same images listed the other way round, purified in the same company."""
    data = images()
    listed = data.take(list(reversed(range(IMAGES))))
    first, second = batch(data, range(IMAGES)), batch(listed, reversed(range(IMAGES)))
    assert first.keys == second.keys
    assert (to_uint8(build(name, data)(first)) == to_uint8(build(name, listed)(second))).all()


@EVERY
def test_images_without_classes(name, build):
    """A method that needs labels says so, with what to do; any other gives what it gives with them."""
    flat = images(labelled=False)
    if "labels" in methods.load("purifier", name).NEEDS:
        with pytest.raises(UsageError, match="class") as caught:
            build(name, flat)
        assert "folder" in f"{caught.value} {caught.value.hint}" and caught.value.hint
    else:
        assert build(name, flat)(batch(flat, range(IMAGES))).shape == (IMAGES, 3, 16, 16)


class Killed(BaseException):
    """In the place of SIGKILL, which leaves the same behind: a state, and arrays in files."""


@EVERY
def test_stopped_behind_a_save_and_built_again_is_the_unbroken_one(name, build, tmp_path, monkeypatch):
    given = batch(images(), range(IMAGES))
    save, saves = Tools.save, []

    def saving(last):
        def now(self, key, state, every=0.0):
            save(self, key, state)
            saves.append(key)
            if len(saves) == last:
                raise Killed

        monkeypatch.setattr(Tools, "save", now)

    saving(0)
    unbroken = to_uint8(build(name, images(), work=tmp_path / "unbroken")(given))
    for last in {1, len(saves) // 2, len(saves)} & set(range(1, len(saves) + 1)):
        saves.clear()
        saving(last)
        with pytest.raises(Killed):
            build(name, images(), work=tmp_path / str(last))(given)
        saving(0)
        again = build(name, images(), work=tmp_path / str(last))(given)
        assert (to_uint8(again) == unbroken).all(), f"stopped behind save {last}"


@EVERY
def test_cost_is_known_before(name):
    module = methods.load("purifier", name)
    for settings in ({}, quick(name)):
        for count in (1, IMAGES, 50_000):
            assert 0 <= module.passes(module.Config(**settings), count) < math.inf

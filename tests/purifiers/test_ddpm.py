from types import SimpleNamespace

import pytest
import torch

from ue_audit.config import load_preset
from ue_audit.errors import NonFiniteError, ResourceError, UsageError
from ue_audit.purifiers import ddpm
from ue_audit.tools import Batch, Tools

DATA = SimpleNamespace(size=8)


def batch(n=6, size=8):
    x = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1))
    return Batch(x, None, torch.arange(n), [f"class/{i}.png" for i in range(n)])


def rows(whole, index):
    index = list(index)
    return Batch(whole.x[index], None, whole.rows[index], [whole.keys[i] for i in index])


def build(prior_file, seed=0, **settings):
    settings = {"precision": "float32", **settings}
    return ddpm.build(DATA, ddpm.Config(**settings), Tools(seed=seed, weights={"prior": prior_file}))


def levels(x):
    return (255 * x).round().to(torch.int16)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_output(prior_file, sampler):
    given = batch()
    before = given.x.clone()
    x_le = build(prior_file, sampler=sampler)(given)
    assert x_le.dtype == torch.float32 and x_le.shape == given.x.shape
    assert x_le.min() >= 0 and x_le.max() <= 1
    assert torch.equal(given.x, before) and not torch.equal(x_le, before)


def test_company_and_order_do_not_matter(prior_file):
    purify = build(prior_file)
    whole = batch()
    together = purify(whole)
    assert torch.equal(purify(whole), together)
    backwards = purify(rows(whole, reversed(range(6)))).flip(0)
    parts = torch.cat([purify(rows(whole, [0])), purify(rows(whole, [1, 2])), purify(rows(whole, [3, 4, 5]))])
    assert torch.equal(levels(backwards), levels(together))  # same compute batch
    assert (levels(parts) - levels(together)).abs().max() <= 1
    assert (levels(parts) != levels(together)).float().mean() <= 1e-3


def test_a_new_build_resumes(prior_file):
    """Nothing is carried from batch to batch: a process that starts in the middle writes the same bytes."""
    whole = batch()
    first = build(prior_file)
    first(rows(whole, [0, 1]))
    assert torch.equal(first(rows(whole, [2, 3])), build(prior_file)(rows(whole, [2, 3])))


def test_seed_and_path_matter(prior_file):
    whole = batch(2)
    same = build(prior_file)(whole)
    assert not torch.equal(build(prior_file, seed=1)(whole), same)
    renamed = build(prior_file)(whole._replace(keys=["class/0.png", "other/1.png"]))
    assert torch.equal(renamed[0], same[0]) and not torch.equal(renamed[1], same[1])


def test_bf16_stays_near(prior_file):
    whole = batch()
    exact, rough = build(prior_file)(whole), build(prior_file, precision="bf16")(whole)
    assert rough.dtype == torch.float32 and (exact - rough).abs().mean() < 4 / 255


def test_refusals(prior_file):
    with pytest.raises(ResourceError, match="prior"):
        ddpm.build(DATA, ddpm.Config(), Tools())
    with pytest.raises(UsageError, match="1..100, found t_purify = 101"):
        build(prior_file, t_purify=101)
    with pytest.raises(NonFiniteError):
        build(prior_file)(batch()._replace(x=torch.full((6, 3, 8, 8), torch.nan)))
    for bad in ({"t_purify": 60, "steps": 61}, {"t_purify": 0}, {"eta": 1.1}, {"passes": 0}, {"pixel_pull": 0.1}):
        with pytest.raises(ValueError):
            ddpm.Config(**bad)


def test_avatar_preset():
    fields = load_preset("purify", "avatar")
    assert fields.pop("method") == "ddpm"
    config = ddpm.Config(**fields)
    assert (config.t_purify, config.passes, config.steps) == (100, 1, None)
    assert all(getattr(config, key) != ddpm.Config.model_fields[key].default for key in fields)

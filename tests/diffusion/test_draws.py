"""draws: which images, timesteps and noise a prior sees, and which it never does."""

import torch
from waves import TINY, Waves, with_fields

from ue_audit.diffusion import draws
from ue_audit.tools import Tools


def test_held_out_images_are_not_trained_on():
    data, tools = Waves(), Tools()
    rows, held = draws.split(len(data), TINY, tools)
    assert len(held) == 6 and not set(rows.tolist()) & set(held.tolist())
    for step in range(30):
        draws.draw(data, rows, TINY, tools, step)
    assert data.seen <= set(rows.tolist())


def test_draw_is_antithetic_and_depends_on_the_step_alone():
    rows = torch.arange(64)
    for batch in (8, 7):
        config = with_fields(TINY, batch=batch, t_max=36)
        x0, t, noise = draws.draw(Waves(), rows, config, Tools(), 5)
        assert x0.shape == noise.shape == (batch, 3, 16, 16) and len(t) == batch
        half = (batch + 1) // 2
        assert t[half:].tolist() == (37 - t[:half])[: batch - half].tolist()
        assert set(t.tolist()) <= set(range(1, 37))
        again = draws.draw(Waves(), rows, config, Tools(), 5)
        assert all(torch.equal(a, b) for a, b in zip((x0, t, noise), again, strict=True))


def test_flip_mirrors_about_half_and_can_be_off():
    data, rows = Waves(), torch.arange(64)
    config = with_fields(TINY, batch=64)
    plain, _, _ = draws.draw(data, rows, with_fields(config, flip=False), Tools(), 0)
    mixed, _, _ = draws.draw(data, rows, config, Tools(), 0)
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(mixed, plain, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(mixed, plain, strict=True)]
    assert all(a or b for a, b in zip(mirrored, kept, strict=True)) and 16 < sum(mirrored) < 48

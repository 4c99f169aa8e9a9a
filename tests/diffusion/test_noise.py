import math

import pytest
import torch
from scipy import stats

from ue_audit.diffusion.noise import Stream, normals, philox

SHAPE = (3, 8, 8)


def words(*values):
    return tuple(torch.tensor([value]) for value in values)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers published with Random123 for philox4x32, 10 rounds
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),  # the digits of pi
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter, key, expected):
    assert tuple(int(word) for word in philox(words(*counter), words(*key))) == expected


def test_normals_known_answer():
    """Box-Muller of the first known answer: u = (word + 1/2) / 2^32, angle = 2 pi word / 2^32."""
    a, b, c, d = 0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8
    r1, r2 = (math.sqrt(-2 * math.log((word + 0.5) / 2**32)) for word in (a, c))
    turn1, turn2 = (2 * math.pi * word / 2**32 for word in (b, d))
    by_hand = [r1 * math.cos(turn1), r1 * math.sin(turn1), r2 * math.cos(turn2), r2 * math.sin(turn2)]
    assert torch.equal(normals(words(a, b, c, d)), torch.tensor([by_hand], dtype=torch.float32))


def test_extreme_words_stay_finite():
    for word in (0, 2**32 - 1):
        assert normals(words(word, word, word, word)).isfinite().all()


def test_layout_of_counter_and_key():
    """Value 4b + i of an image is normal i of philox((b, step, pass, use), (low, high) of the image's key)."""
    stream = Stream(3, ["cat/1.png"], SHAPE, "cpu")
    key = int(stream.images[0])
    block = philox(words(5, 7, 1, 0), words(key & 0xFFFFFFFF, key >> 32))
    assert torch.equal(stream(1, 7).flatten()[20:24], normals(block).flatten())
    of_use_2 = philox(words(5, 7, 1, 2), words(key & 0xFFFFFFFF, key >> 32))
    assert torch.equal(stream(1, 7, 2).flatten()[20:24], normals(of_use_2).flatten())


def test_an_image_has_its_noise_in_any_company():
    keys = [f"class/{i}.png" for i in range(150)]  # more than two chunks
    together = Stream(0, keys, SHAPE, "cpu")(2, 9)
    backwards = Stream(0, keys[::-1], SHAPE, "cpu")(2, 9)
    assert torch.equal(together, backwards.flip(0))
    for row in (0, 63, 64, 149):
        assert torch.equal(together[row], Stream(0, [keys[row]], SHAPE, "cpu")(2, 9)[0])


def test_every_name_matters():
    base = Stream(0, ["a/1.png"], SHAPE, "cpu")
    others = [base(0, 1), base(1, 0), Stream(1, ["a/1.png"], SHAPE, "cpu")(0, 0)]
    others.append(Stream(0, ["b/1.png"], SHAPE, "cpu")(0, 0))
    for other in others:
        assert not torch.isclose(base(0, 0), other).any(1).all()
    assert torch.equal(base(0, 0), base(0, 0))


def test_sizes_that_are_no_multiple_of_four():
    odd = Stream(0, ["a"], (3, 7, 7), "cpu")(0, 0)  # 147 values
    even = Stream(0, ["a"], (1, 1, 148), "cpu")(0, 0)
    assert torch.equal(odd.flatten(), even.flatten()[:147])


def test_noise_is_standard_normal_and_independent():
    """Every statistic within 5 of its standard deviations under the null hypothesis."""
    stream = Stream(0, [f"{i}.png" for i in range(64)], (3, 32, 32), "cpu")
    a, b, c = (stream(*draw).double() for draw in ((0, 1), (0, 2), (1, 1)))
    n = a.numel()
    assert a.dtype == torch.float64 and stream(0, 1).dtype == torch.float32
    assert abs(a.mean()) < 5 / n**0.5
    assert abs(a.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((a**4).mean() - 3) < 5 * (96 / n) ** 0.5  # var of z^4: 105 - 9
    neighbours = [(a, b), (a, c), (a[:-1], a[1:]), (a[..., :-1], a[..., 1:]), (a[:, :1], a[:, 1:2])]
    for x, y in neighbours:  # steps, passes, images, places, channels
        assert abs((x * y).mean()) < 5 / x.numel() ** 0.5
        assert abs(((x**2 - 1) * (y**2 - 1)).mean()) < 5 * 2 / x.numel() ** 0.5  # no shared radius
    assert stats.kstest(a.flatten().numpy(), "norm").pvalue > 1e-3

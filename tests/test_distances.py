"""Distances: derived by hand on constant images, and against torchmetrics."""

import math

import pytest
import torch

from ue_audit import distances


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_norms_and_psnr_of_a_constant_change() -> None:
    x = torch.full((2, 3, 4, 4), 0.5)
    y = x.clone()
    y[0] += 0.1  # 48 values: l2 = .1 sqrt(48), mse = .01, psnr = 20
    assert distances.linf(x, y).tolist() == pytest.approx([0.1, 0])
    assert distances.l2(x, y).tolist() == pytest.approx([0.1 * math.sqrt(48), 0])
    assert distances.psnr(x, y)[0].item() == pytest.approx(20, abs=1e-5)
    assert distances.psnr(x, y)[1].item() == math.inf


def test_ssim_of_two_constant_images_is_the_luminance_term() -> None:
    x, y = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)  # variances 0: the structure term is 1
    assert distances.ssim(x, y).item() == pytest.approx(expected, abs=1e-6)


def test_ssim_of_equal_images_is_one_even_when_tiny() -> None:
    for size in (4, 8, 32):
        x = images(2, 3, size, size)
        assert distances.ssim(x, x).tolist() == pytest.approx([1, 1])


def test_residual_correlation_of_kept_removed_and_overcorrected_perturbations() -> None:
    x, delta = images(1, 3, 8, 8), 0.1 * images(1, 3, 8, 8, seed=1)
    for kept in (1.0, 0.25, 0.0, -0.5):  # x_le = x + kept delta, so rho = kept
        rho = distances.residual_correlation(x, x + delta, x + kept * delta)
        assert rho.item() == pytest.approx(kept, abs=1e-5)


def test_residual_correlation_ignores_what_is_orthogonal_to_delta() -> None:
    x = torch.zeros(1, 1, 2, 2)
    delta = torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]])
    blur = torch.tensor([[[[1.0, 1.0], [-1.0, -1.0]]]])  # <blur, delta> = 0
    assert distances.residual_correlation(x, x + delta, x + 0.5 * delta + blur).item() == pytest.approx(0.5)


def test_residual_correlation_of_an_unchanged_image_is_undefined() -> None:
    x = images(1, 3, 8, 8)
    assert distances.residual_correlation(x, x, x).isnan().all()


def test_l2_projection_shortens_what_is_long_and_leaves_the_rest() -> None:
    delta = torch.zeros(3, 3, 4, 4)
    delta[0, 0, 0, 0], delta[1, 0, 0, 0] = 3, 0.5
    projected = distances.project(delta, 1.0, "l2")
    assert projected.flatten(1).norm(dim=1).tolist() == pytest.approx([1, 0.5, 0])


def test_linf_projection_clips() -> None:
    delta = torch.tensor([-2.0, -0.5, 0.5, 2.0]).view(1, 1, 2, 2)
    assert distances.project(delta, 1.0, "linf").flatten().tolist() == [-1, -0.5, 0.5, 1]


@pytest.mark.parametrize(
    ("k", "l", "band"),
    [(0, 0, 0), (0, 3, 0), (0, 4, 1), (3, 2, 0), (3, 3, 1), (7, 0, 1), (0, 8, 2), (6, 5, 1), (6, 6, 2), (11, 11, 2)],
)
def test_a_cosine_lies_in_one_band(k: int, l: int, band: int) -> None:  # noqa: E741
    """Coefficient (k, l) of 12 x 12 has r = |(k, l)| / 12: low below 4, high from 8; |(3, 2)| = 3.6, |(6, 5)| = 7.8."""
    rows, columns = (torch.cos(torch.pi * (2 * torch.arange(12) + 1) * n / 24) for n in (k, l))
    wave = 0.1 * torch.outer(rows, columns).expand(2, 3, 12, 12)
    expected = [float(number == band) for number in range(3)]
    assert distances.bands(wave).flatten().tolist() == pytest.approx(expected * 2, abs=1e-9)


def test_bands_share_out_energy_also_of_oblong_images() -> None:
    """A flat change of 1 beside the fastest wave along rows, of power 4: one part in five is low."""
    wave = torch.cos(torch.pi * (2 * torch.arange(30) + 1) * 29 / 60)
    residual = 1 + wave * (4 / wave.square().mean()).sqrt()
    shares = distances.bands(residual.expand(1, 3, 24, 30))
    assert shares.tolist() == [pytest.approx([0.2, 0, 0.8], abs=1e-6)]


def test_white_noise_has_the_areas_of_the_rings() -> None:
    """All coefficients have equal energy; r < 1/3 is a quarter disc, r < 2/3 one of four times its area, both with the
    half cells along two axes, 1/(3n) and 2/(3n)."""
    low, cell = math.pi / 36, 1 / (3 * 64)
    found = distances.bands(images(50, 3, 64, 64) - 0.5).mean(0)
    assert found.tolist() == pytest.approx([low + cell, 3 * low + cell, 1 - 4 * low - 2 * cell], abs=0.003)


def test_no_residual_has_no_bands() -> None:
    assert distances.bands(torch.zeros(2, 3, 8, 8)).isnan().all()


def test_an_unknown_norm_and_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="linf or l2"):
        distances.project(images(1, 3, 4, 4), 1.0, "l7")
    with pytest.raises(ValueError, match="alike"):
        distances.psnr(images(1, 3, 4, 4), images(1, 3, 4, 5))


@pytest.mark.parametrize("name", ["linf", "l2", "psnr", "ssim"])
def test_an_image_scores_the_same_in_any_batch(name: str) -> None:
    measure = getattr(distances, name)
    x, y = images(5, 3, 16, 16), images(5, 3, 16, 16, seed=1)
    together = measure(x, y)
    assert torch.equal(together, torch.cat([measure(x[i : i + 1], y[i : i + 1]) for i in range(5)]))
    assert torch.equal(together.flip(0), measure(x.flip(0), y.flip(0)))


def test_bands_are_the_same_in_any_batch() -> None:
    residual = images(5, 3, 16, 16) - 0.5
    together = distances.bands(residual)
    assert torch.equal(together, torch.cat([distances.bands(residual[i : i + 1]) for i in range(5)]))


@pytest.mark.parametrize("size", [16, 32, 40])
def test_psnr_and_ssim_equal_torchmetrics(size: int) -> None:
    metrics = pytest.importorskip("torchmetrics.functional.image")
    x = images(4, 3, size, size)
    y = (x + 0.1 * images(4, 3, size, size, seed=1)).clamp(0, 1)
    for i in range(4):
        a, b = x[i : i + 1], y[i : i + 1]
        psnr = metrics.peak_signal_noise_ratio(b, a, data_range=1.0)
        _, full = metrics.structural_similarity_index_measure(
            b.double(), a.double(), data_range=1.0, return_full_image=True
        )
        ssim = full[..., 5:-5, 5:-5].mean()  # it mirrors the borders; Wang's own code and ours leave them out
        assert distances.psnr(a, b).item() == pytest.approx(psnr.item(), abs=1e-3)
        assert distances.ssim(a, b).item() == pytest.approx(ssim.item(), abs=1e-5)

"""How far two images lie apart, one number per image; and the projection onto a budget.

Images are (B,C,H,W) in [0,1], results (B,) float64. Nothing here averages over a batch: what an image
scores does not depend on its neighbours. Sums run in float64.

    x  clean        x_ue  protected        x_le  purified        delta = x_ue - x
"""

import torch
from torch import Tensor

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004, section III-C
K1, K2 = 0.01, 0.03
BANDS = 3  # low, mid and high: thirds of the Nyquist frequency


def linf(x: Tensor, y: Tensor) -> Tensor:
    """The largest change of any value, in [0,1] (times 255: levels)."""
    return _difference(x, y).abs().amax(1)


def l2(x: Tensor, y: Tensor) -> Tensor:
    """The Euclidean length of the change, in [0,1] units."""
    return _difference(x, y).square().sum(1).sqrt()


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB against a peak of 1; infinity for equal images."""
    error = _difference(x, y).square().mean(1)
    return -10 * error.log10()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, eq. 13), the mean over channels and windows within the image.

    The window is Gaussian, 11 pixels, sigma 1.5; smaller images get the largest odd window that fits.
    """
    _check(x, y)
    x, y = x.double(), y.double()
    mu_x, mu_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mu_x**2, _blur(y * y) - mu_y**2
    covariance = _blur(x * y) - mu_x * mu_y
    luminance = (2 * mu_x * mu_y + K1**2) / (mu_x**2 + mu_y**2 + K1**2)
    structure = (2 * covariance + K2**2) / (var_x + var_y + K2**2)
    return (luminance * structure).flatten(1).mean(1)


def residual_correlation(x: Tensor, x_ue: Tensor, x_le: Tensor) -> Tensor:
    """rho = <x_le - x, delta> / ||delta||²: 1 = delta fully kept, 0 = gone, below 0 = over-corrected.

    NaN where delta is zero: an image that was not changed has nothing to remove.
    """
    delta, rest = _difference(x_ue, x), _difference(x_le, x)
    return (rest * delta).sum(1) / delta.square().sum(1)


def bands(residual: Tensor) -> Tensor:
    """Shares (B,3) of the energy of residuals (B,C,H,W) at low, mid and high radial frequencies; they add up to 1.

    By the orthonormal discrete cosine transform, whose coefficient (k, l) has the frequency r = |(k/H, l/W)|, where 1
    is Nyquist's, half a cycle a pixel: low are r < 1/3, high r >= 2/3. NaN where there is no residual.
    """
    rows, columns = (_cosines(side, residual) for side in residual.shape[2:])
    energy = (rows @ residual.double() @ columns.T).square().sum(1)  # (B,H,W)
    height, width = residual.shape[2:]
    k, l = torch.arange(height).unsqueeze(1), torch.arange(width)  # noqa: E741
    squared = (k * width) ** 2 + (l * height) ** 2  # (r H W)², in whole numbers
    above = [BANDS**2 * squared >= (edge * height * width) ** 2 for edge in range(1, BANDS)]
    band = torch.stack(above).sum(0).to(residual.device)  # (H,W): 0, 1, 2
    found: Tensor = torch.stack([energy[:, band == number].sum(1) for number in range(BANDS)], 1)
    return found.div(found.sum(1, keepdim=True))


def _cosines(n: int, like: Tensor) -> Tensor:
    """The orthonormal DCT-II of n values: (n,n) float64, on the device of `like`."""
    k, i = torch.arange(n, dtype=torch.float64).unsqueeze(1), torch.arange(n, dtype=torch.float64)
    cosines: Tensor = (2 / n) ** 0.5 * torch.cos(torch.pi * (2 * i + 1) * k / (2 * n))
    cosines[0] /= 2**0.5
    return cosines.to(like.device)


def project(delta: Tensor, radius: float, norm: str) -> Tensor:
    """The nearest perturbation in the budget, per image. norm: "linf" or "l2"; radius in [0,1] units."""
    if norm == "linf":
        return delta.clamp(-radius, radius)
    if norm == "l2":
        length = delta.flatten(1).norm(dim=1).clamp_min(torch.finfo(delta.dtype).tiny)
        scale = (radius / length).clamp(max=1)
        return delta.mul(scale.view(-1, 1, 1, 1))
    raise ValueError(f"expected the norm linf or l2, found {norm!r}")


def _difference(x: Tensor, y: Tensor) -> Tensor:
    _check(x, y)
    return (x.double() - y.double()).flatten(1)


def _check(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape or x.dim() != 4:
        raise ValueError(f"expected two (B,C,H,W) batches alike, found {tuple(x.shape)} and {tuple(y.shape)}")


def _blur(x: Tensor) -> Tensor:
    """Gaussian means over every window inside the image: (B,C,H,W) -> (B,C,H-w+1,W-w+1)."""
    width = min(WINDOW, x.shape[2], x.shape[3])
    width -= 1 - width % 2
    down, across = (_windows(side, width, x) for side in x.shape[2:])
    return down @ x @ across.T


def _windows(side: int, width: int, like: Tensor) -> Tensor:
    """The weights of `side` pixels in a row for each window that fits: (side-w+1,side), of the type of `like`."""
    pixels = torch.arange(side, dtype=like.dtype, device=like.device)
    offsets = pixels - pixels[: side - width + 1].unsqueeze(1) - width // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2)) * (offsets.abs() <= width // 2)
    return weights / weights.sum(1, keepdim=True)

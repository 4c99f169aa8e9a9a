"""The weighted vote of nearest neighbours: what frozen features are worth without training anything on them.

    votes(x)_c = sum over the k nearest images i of class c  exp(cos(h(x), h_i) / T)

as in Wu et al., arXiv 1805.01978 (section 3.4), which has k = 200 and T = 0.07 for sets of 50,000 images and more. In a
smaller one 200 neighbours would be whole classes: k is at most half of what a class has on average.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SHARE = 0.5  # of the images of an average class: at most as many neighbours
FLOOR = 1e-12  # least share of the votes, so that a logarithm is finite


def neighbours(k: int, images: int, classes: int) -> int:
    """k, or fewer in a small set."""
    return max(1, min(k, int(SHARE * images / classes)))


def votes(h: Tensor, bank: Tensor, y: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """Logarithms of the shares of the votes (B,K) float32 for features h (B,F), by a bank (N,F) labelled y (N,)."""
    cosines = F.normalize(h, dim=1) @ F.normalize(bank, dim=1).T  # (B, N)
    near, rows = cosines.topk(k, dim=1)
    weights = torch.softmax(near / temperature, dim=1)  # shares: their sum cancels
    shares = torch.zeros(len(h), classes, device=h.device).scatter_add_(1, y[rows], weights)
    return shares.clamp(min=FLOOR).log()

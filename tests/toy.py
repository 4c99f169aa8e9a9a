"""Two or more classes of a few 12 px photographs of noise, as methods see them."""

from types import SimpleNamespace

import torch


class Toy:
    """The data protocol of methods in a few lines: grey noise around a level of the class."""

    def __init__(self, classes=3, each=16, size=12, seed=0, order=None):
        generator = torch.Generator().manual_seed(seed)
        n = classes * each
        labels = torch.arange(n) % classes
        base = torch.linspace(0.35, 0.65, classes)[labels].view(-1, 1, 1, 1)
        pixels = (255 * (base + 0.25 * (torch.rand(n, 3, size, size, generator=generator) - 0.5))).round() / 255
        order = torch.arange(n) if order is None else order
        self.x, self.labels = pixels[order], labels[order]
        self.keys = [f"class{labels[i]}/{i:03d}.png" for i in order.tolist()]
        self.classes, self.size = tuple(f"class{k}" for k in range(classes)), size

    def __len__(self):
        return len(self.x)

    def batch(self, rows):
        return self.x[rows]

    def without_labels(self):
        return SimpleNamespace(x=self.x, labels=None, classes=(), keys=self.keys, size=self.size, batch=self.batch)


def levels(data, delta):
    """X~ - X in whole levels, as the protect stage writes them."""
    x = data.batch(torch.arange(len(data)))
    d = delta(torch.arange(len(data)))
    return (255 * (x + d)).round().clamp(0, 255).int() - (255 * x).round().int()

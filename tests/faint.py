"""Classes that differ by stripes of four levels: within a budget of eight, one can be made to look like another."""

import torch
from toy import Toy

CONTRAST = 4 / 255


class Faint(Toy):
    """Class k wears stripes of its own direction on grey noise."""

    def __init__(self, classes=3, each=12, size=12, seed=0, order=None):
        super().__init__(classes, each, size, seed)
        places = torch.arange(size)
        down, along = places[:, None] // 2, places[None] // 2
        stripes = torch.stack([(1 - 2 * ((a * down + b * along) % 2)) * 1.0 for a, b in ((0, 1), (1, 0), (1, 1))])
        grey = torch.rand(self.x.shape, generator=torch.Generator().manual_seed(seed + 1))
        pixels = 0.5 + 0.04 * (grey - 0.5) + CONTRAST * stripes[self.labels % 3][:, None]
        order = torch.arange(len(self)) if order is None else order
        self.x, self.labels = ((255 * pixels).round() / 255)[order], self.labels[order]
        self.keys = [self.keys[row] for row in order.tolist()]

"""Tables of noise: maps for rows, half precision, in memory or memory-mapped."""

import numpy as np
import torch
from torch import Tensor


class Noise:
    """A table of maps (rows,3,S,S), kept in 255ths as float16, read and written as float32 in [0,1] units."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.table[rows.numpy()]).float() / 255

    def __setitem__(self, rows: Tensor, maps: Tensor) -> None:
        self.table[rows.numpy()] = (255 * maps).cpu().numpy().astype(self.table.dtype)

"""The plain training loop: what a competent practitioner writes with torchvision's folders, transforms and loaders.

float32, torch's own number of threads, images in PNG files or in memory, each with a crop and a flip of its own.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets
from torchvision.transforms import v2

from ue_audit.learners.supervised import Config
from ue_audit.training.fit import rate

WORKERS = 2  # processes that load images


class InMemory(Dataset[Any]):
    """uint8 images (N,3,S,S), each with transforms of its own."""

    def __init__(self, x: Tensor, y: Tensor, transform: Any) -> None:
        self.x, self.y, self.transform = x, y, transform

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.x[row]), self.y[row]


def in_folder(folder: str, size: int, config: Config) -> DataLoader[Any]:
    return _loader(datasets.ImageFolder(folder, _transform(size, config)), config)


def in_memory(x: Tensor, y: Tensor, config: Config) -> DataLoader[Any]:
    return _loader(InMemory(x, y, _transform(x.shape[-1], config)), config)


def learn(network: nn.Module, batches: DataLoader[Any], config: Config, device: torch.device) -> Iterator[float]:
    """The mean loss of every epoch: SGD with the learner's rates."""
    network = network.to(device)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, nesterov=True
    )
    step, steps = 0, config.epochs * len(batches)
    for _ in range(config.epochs):
        network.train()
        total = 0.0
        for x, y in batches:
            optimiser.param_groups[0]["lr"] = rate(step, steps, config)
            optimiser.zero_grad()
            loss = F.cross_entropy(network(x.to(device, non_blocking=True)), y.to(device, non_blocking=True))
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.item()
            step += 1
        yield total / len(batches)


@torch.no_grad()
def accuracy(network: nn.Module, x: Tensor, y: Tensor, batch: int, device: torch.device) -> float:
    """The share of float images x that the network gets right."""
    network.eval()
    right = [network(part.to(device)).argmax(1).cpu() for part in torch.split(x, batch)]
    return float((torch.cat(right) == y).float().mean())


def _transform(size: int, config: Config) -> Any:
    crop = v2.RandomCrop(size, padding=round(config.crop * size))
    return v2.Compose([v2.ToImage(), crop, v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])


def _loader(images: Any, config: Config) -> DataLoader[Any]:
    return DataLoader(
        images,
        min(config.batch, len(images)),
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=WORKERS > 0,
        pin_memory=torch.cuda.is_available(),
    )

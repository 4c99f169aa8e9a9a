"""The plain recipes do what they are held up for: a protection within its budget, a loop that learns."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from toy import Toy
from trees import image_tree

from ue_audit.benches import plain_files, plain_training
from ue_audit.benches.training import recipe
from ue_audit.training import backbones


def test_save_adds_one_pattern_per_class(tmp_path: Path) -> None:
    source = image_tree(tmp_path / "data")
    plain_files.save(str(source), str(tmp_path / "out"), eps=8 / 255)
    for path in source.rglob("*.png"):
        x = np.asarray(Image.open(path), int)
        change = np.asarray(Image.open(tmp_path / "out" / path.relative_to(source)), int) - x
        assert np.abs(change).max() == 8
        assert set(np.abs(change[(x >= 8) & (x <= 247)])) == {8}


def test_the_plain_loop_learns() -> None:
    data, config = Toy(each=32), recipe(4).model_copy(update={"batch": 16})
    x, y = (255 * data.x).round().to(torch.uint8), data.labels
    network = backbones.build("thin", 3, 0)
    torch.manual_seed(0)
    losses = list(plain_training.learn(network, plain_training.in_memory(x, y, config), config, torch.device("cpu")))
    assert len(losses) == 4 and losses[-1] < losses[0]
    assert plain_training.accuracy(network, data.x, y, 32, torch.device("cpu")) > 0.5


def test_a_batch_is_no_larger_than_the_set() -> None:
    x, y = torch.zeros(5, 3, 8, 8, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64)
    assert plain_training.in_memory(x, y, recipe(1)).batch_size == 5

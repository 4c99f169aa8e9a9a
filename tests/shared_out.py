"""A protected set of 15 images in four shards, and its parts: what tests of `purify --shard` and `merge` share."""

from pathlib import Path
from typing import Any

import pytest
from stand_ins import owner

from ue_audit import merge, protect, purify, shards
from ue_audit.settings import MergeSettings, ProtectSettings, PurifySettings

SET = Path("data.maps")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_sync: None) -> Path:
    """The working directory, with data/ and data.maps/; shards of 4, 4, 4 and 3 images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(shards, "SHARD_PIXELS", 4 * 8 * 8)
    owner(Path("data"), each=5)
    return protect.run(ProtectSettings(source=Path("data"), method="stand_ins.maps", output=SET)).resolve().parent


def purified(shard: str | None = None, **more: Any) -> Path:
    return purify.run(PurifySettings(**{"source": SET, "method": "stand_ins.grey", "shard": shard} | more))


def parts(count: int, **more: Any) -> list[Path]:
    return [purified(f"{number}/{count}", **more) for number in range(1, count + 1)]


def merged(*folders: Path, **more: Any) -> Path:
    return merge.run(MergeSettings(folders=folders, **more))

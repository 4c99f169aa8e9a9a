"""The one place where stages find what they need to know about outputs."""

import inspect
from pathlib import Path

import pytest
from trees import contents, image_tree, protect

from ue_audit import manifest

pytestmark = pytest.mark.usefixtures("no_sync")


def test_everything_is_reachable_and_explained() -> None:
    for name in manifest.__all__:
        found = getattr(manifest, name)
        assert isinstance(found, str) or inspect.getdoc(found)


def test_reading_changes_nothing(tmp_path: Path) -> None:
    output = protect(image_tree(tmp_path / "data/train"), tmp_path / "out")
    before = contents(output)
    assert manifest.read(output) == manifest.find(output)
    assert len(manifest.records(output)) == manifest.verify(output, chain=True).checked - 2
    assert contents(output) == before

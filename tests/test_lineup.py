"""The learners of an evaluation: labels, settings for all and for one, and which sets each takes."""

import pytest
from stand_ins import photos

from ue_audit import imagefolder, lineup
from ue_audit.cells import Cell
from ue_audit.errors import UsageError

ROLES = ("clean", "noise", "protected", "purified", "ceiling")


def cells(tmp_path):
    data = imagefolder.intake(imagefolder.scan(photos(tmp_path / "a"))).data
    return [Cell(role, role, None, data) for role in ROLES]


def test_settings_are_for_all_learners_or_for_the_one_they_name():
    names = ("supervised", "stand_ins.centroids", "cutmix")
    layers = {"file": {"epochs": 7, "cutmix": {"batch": 16}}, "flag": {"stand_ins.centroids.epochs": 3}}
    found = {learner.label: learner for learner in lineup.gather(names, layers)}
    assert [found[name].chosen.config.epochs for name in names] == [7, 3, 7]
    assert (found["supervised"].chosen.config.batch, found["cutmix"].chosen.config.batch) == (64, 16)
    assert found["cutmix"].chosen.name == "supervised" and found["cutmix"].name["learner"] == "cutmix"


def test_a_setting_that_one_learner_lacks_is_refused():
    with pytest.raises(UsageError, match="cannot be used"):
        lineup.gather(("supervised", "stand_ins.centroids"), {"flag": {"batch": 8}})


def test_asking_twice_is_refused():
    with pytest.raises(UsageError, match="asked for twice"):
        lineup.gather(("supervised", "supervised"), {})


@pytest.mark.parametrize(
    ("name", "kind", "plain", "crossed"),
    [
        ("supervised", "victim", ROLES, ROLES),
        ("cutmix", "countermeasure", ("clean", "protected"), ("clean", "protected", "purified", "ceiling")),
        ("own_only", "reference", ("clean",), ("clean",)),
    ],
)
def test_which_sets_a_learner_takes(name, kind, plain, crossed, tmp_path):
    (learner,) = lineup.gather((name,), {})
    assert learner.kind == kind
    assert tuple(c.role for c in cells(tmp_path) if learner.takes(c, cross=False)) == plain
    assert tuple(c.role for c in cells(tmp_path) if learner.takes(c, cross=True)) == crossed


def test_a_probe_on_own_images_needs_them():
    plain, own = (lineup.gather(("simclr",), {"flag": {"probe_on": on}})[0] for on in ("clean", "own"))
    assert "own" in own.needs and "own" not in plain.needs

"""The sets to train on: alignment by lineage, and a noise control with the norms of delta and none of its meaning."""

import shutil

import numpy as np
import pytest
from stand_ins import owner, photos

from ue_audit import cells, imagefolder, protect, purify
from ue_audit.cells import Cell
from ue_audit.errors import UsageError
from ue_audit.settings import ProtectSettings, PurifySettings


def take(path):
    return imagefolder.intake(imagefolder.scan(path)).data


@pytest.fixture
def pair(tmp_path):
    owner(tmp_path / "data", size=32)
    out = protect.run(
        ProtectSettings(source=tmp_path / "data", method="stand_ins.maps", output=tmp_path / "data.maps")
    )
    clean = Cell("clean", "train", None, take(tmp_path / "data" / "train"))
    return clean, Cell("protected", "data.maps", None, take(out))


def levels(cell, clean):
    return cell.data.pixels.astype(int) - clean.data.pixels


def sizes(levels):
    return sorted(tuple(np.sort(np.abs(image).ravel())) for image in levels)


def test_the_noise_control_has_the_norms_of_delta_and_is_uncorrelated(pair):
    clean, protected = pair
    noise = cells.noise_control(clean, protected, seed=0)
    delta, random = levels(protected, clean), levels(noise, clean)
    assert sizes(delta) == sizes(random)
    rho = (delta * random).sum((1, 2, 3)) / (delta**2).sum((1, 2, 3))
    assert np.abs(rho).max() < 5 / np.sqrt(3072)  # 3072 independent signs: five standard deviations
    assert (random[0] != random[1]).any()  # no class map
    assert noise.data.labels.tolist() == clean.data.labels.tolist()


def test_the_strength_of_the_noise_does_not_tell_the_class(pair):
    """Class k is changed by 2 k + 1 levels; with its own norm every image would show its class."""
    clean, _ = pair
    labels = clean.data.labels.numpy()
    changed = clean.data.with_pixels((clean.data.pixels + (2 * labels + 1)[:, None, None, None]).astype(np.uint8))
    noise = cells.noise_control(clean, Cell("protected", "p", None, changed), seed=0)
    strength = np.abs(levels(noise, clean)).max((1, 2, 3))
    assert sorted(strength) == sorted(2 * labels + 1)
    assert (strength != 2 * labels + 1).any() and len(set(strength[labels == 0])) > 1


def test_the_noise_does_not_depend_on_the_order_of_the_images(pair):
    order = np.random.default_rng(0).permutation(12).tolist()
    whole = cells.noise_control(*pair, seed=0).data.pixels
    shuffled = [Cell(c.role, c.folder, None, c.data.take(order)) for c in pair]
    assert (cells.noise_control(*shuffled, seed=0).data.pixels == whole[order]).all()
    assert (cells.noise_control(*shuffled, seed=1).data.pixels != whole[order]).any()


def test_rows_are_aligned_with_the_clean_originals_through_renamed_files(tmp_path):
    photos(tmp_path / "data" / "train", ending="bmp")
    (tmp_path / "data" / "train" / "class0" / "000.bmp").rename(tmp_path / "data" / "train" / "class0" / "zz.bmp")
    source = protect.run(
        ProtectSettings(source=tmp_path / "data", method="stand_ins.maps", output=tmp_path / "p")
    )
    path = purify.run(
        PurifySettings(source=source, method="stand_ins.grey", output=tmp_path / "q", layers={"flag": {"share": 0.0}})
    )
    keys = take(tmp_path / "data" / "train").keys[::-1]
    aligned = cells.align(take(path), cells.original_keys(path), keys, path)
    wanted = [imagefolder.decode(tmp_path / "data" / "train" / key).pixels.astype(int) for key in keys]
    assert np.abs(aligned.pixels - np.stack(wanted)).max() == 8


def test_a_cell_is_named_by_its_pixels_labels_and_classes(pair):
    clean, protected = pair
    same = Cell("noise", "other", None, clean.data.with_pixels(clean.data.pixels.copy()))
    assert same.digest == clean.digest != protected.digest
    assert Cell("", "", None, clean.data.take([1, 0, *range(2, 12)])).digest != clean.digest


def test_the_role_is_read_from_lineage(pair, tmp_path):
    assert cells.role_of(tmp_path / "data" / "train") == ("clean", None)
    assert cells.role_of(tmp_path / "data.maps") == ("protected", None)
    for source, name, role in (("data.maps", "a", "purified"), ("data", "b", "ceiling")):
        out = purify.run(
            PurifySettings(source=tmp_path / source, method="stand_ins.grey", output=tmp_path / name)
        )
        assert cells.role_of(out) == (role, "stand_ins.grey")
        family = [path.resolve().name for path in cells.family([out], None)]
        assert family == (["train", "data.maps", "a"] if role == "purified" else ["train", "b"])


def test_halves_of_the_test_set_stay_when_images_are_added(pair):
    data = pair[0].data
    val, test = cells.split_by_hash(data)
    assert sorted(val.keys + test.keys) == sorted(data.keys) and not set(val.keys) & set(test.keys)
    fewer, _ = cells.split_by_hash(data.take(range(6)))
    assert set(fewer.keys) <= set(val.keys)


def test_images_without_classes_cannot_be_evaluated(tmp_path):
    photos(tmp_path / "flat", classes=1)
    flat = imagefolder.intake(imagefolder.scan(tmp_path / "flat", flat=True)).data
    with pytest.raises(UsageError, match="one folder per class"):
        cells.gather([tmp_path / "flat"], None, False, 0, lambda path: flat)


def purified(source, place, **more):
    return purify.run(PurifySettings(source=source, method="stand_ins.grey", output=place, **more))


def test_a_set_that_was_purified_twice_is_named_after_both(tmp_path):
    owner(tmp_path / "data")
    shield = protect.run(ProtectSettings(source=tmp_path / "data", method="stand_ins.maps", output=tmp_path / "d.maps"))
    once = purified(shield, tmp_path / "d.maps.a", name="a")
    assert cells.role_of(purified(once, tmp_path / "d.maps.a.b", name="b")) == ("purified", "a+b")
    ceiling = purified(purified(tmp_path / "data", tmp_path / "d.a", name="a"), tmp_path / "d.a.b", name="b")
    assert cells.role_of(ceiling) == ("ceiling", "a+b")


@pytest.mark.parametrize("protected", [True, False])
def test_what_a_purified_set_goes_back_to_must_be_there(tmp_path, protected):
    """Without its parent an attack could not be told from a ceiling."""
    owner(tmp_path / "data")
    source = tmp_path / "first"
    if protected:
        protect.run(ProtectSettings(source=tmp_path / "data", method="stand_ins.maps", output=source))
    else:
        purified(tmp_path / "data", source)
    last = purified(source, tmp_path / "last")
    shutil.rmtree(source)
    with pytest.raises(UsageError, match="not there: whether that was protected is not known"):
        cells.role_of(last)

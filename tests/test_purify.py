"""purify: the chain of lineage, figures against the clean originals, ceilings, errors."""

import numpy as np
import pytest
import torch
from stand_ins import owner

from ue_audit import distances, manifest, protect, purify
from ue_audit.errors import NonFiniteError, ResourceError, UsageError
from ue_audit.imagefolder import decode
from ue_audit.settings import ProtectSettings, PurifySettings


@pytest.fixture
def protected(tmp_path):
    owner(tmp_path / "data")
    return protect.run(
        ProtectSettings(source=tmp_path / "data", method="stand_ins.maps", output=tmp_path / "data.maps")
    )


def settings(tmp_path, source, **more):
    return PurifySettings(**{"source": source, "method": "stand_ins.grey", "output": tmp_path / "out"} | more)


def pixels(path):
    return decode(path).pixels.astype(float)


def test_the_output_is_the_purified_image_rounded(tmp_path, protected):
    out = purify.run(settings(tmp_path, protected))
    x_ue, x_le = (pixels(folder / "class1" / "002.png") for folder in (protected, out))
    assert (x_le == np.rint(np.broadcast_to(x_ue.mean(2, keepdims=True), x_ue.shape))).all()
    assert manifest.verify(out, chain=True).problems == []


def test_figures_are_measured_against_the_clean_originals(tmp_path, protected):
    out = purify.run(settings(tmp_path, protected))
    record = next(r for r in manifest.records(out) if r["path"] == "class0/001.png")
    x, x_ue, x_le = (pixels(folder / "class0" / "001.png") for folder in (tmp_path / "data" / "train", protected, out))
    delta, rest = x_ue - x, x_le - x
    assert record["residual_correlation"] == pytest.approx((rest * delta).sum() / (delta**2).sum(), abs=1e-5)
    assert record["psnr_clean"] == pytest.approx(10 * np.log10(255**2 / (rest**2).mean()), abs=1e-4)
    assert record["linf"] == np.abs(x_le - x_ue).max()
    shares = distances.bands(torch.from_numpy(rest).permute(2, 0, 1)[None])[0].tolist()
    assert [record[f"residual_{band}"] for band in ("low", "mid", "high")] == pytest.approx(shares, abs=1e-5)


def test_a_purifier_that_changes_nothing_keeps_all_of_delta(tmp_path, protected):
    out = purify.run(settings(tmp_path, protected, layers={"flag": {"share": 0.0}}))
    assert {r["residual_correlation"] for r in manifest.records(out)} == {1.0}


def test_clean_images_make_a_ceiling_without_figures_of_recovery(tmp_path, protected):
    out = purify.run(settings(tmp_path, tmp_path / "data", output=tmp_path / "ceiling"))
    assert manifest.clean_of(out).resolve() == (tmp_path / "data" / "train").resolve()
    assert all("residual_correlation" not in r for r in manifest.records(out))
    assert manifest.verify(out, chain=True).problems == []


def test_a_missing_prior_is_named_with_the_command_that_makes_one(tmp_path, protected):
    with pytest.raises(ResourceError) as missing:
        purify.run(settings(tmp_path, protected, method="jcdp", prior=tmp_path / "no.ckpt"))
    assert "ue-audit train-prior" in missing.value.hint
    with pytest.raises(ResourceError, match="prior"):
        purify.run(settings(tmp_path, protected, method="jcdp"))


def test_nan_is_an_error_and_never_written(tmp_path, protected):
    with pytest.raises(NonFiniteError):
        purify.run(settings(tmp_path, protected, method="stand_ins.broken"))
    assert not list((tmp_path / "out").rglob("*.png"))


def test_an_output_inside_its_input_is_refused(tmp_path, protected):
    with pytest.raises(UsageError):
        purify.run(settings(tmp_path, protected, output=protected / "purified"))


def test_a_plan_writes_nothing(tmp_path, protected):
    before = sorted(tmp_path.rglob("*"))
    plan = purify.plan(settings(tmp_path, protected))
    assert plan.images == 12 and plan.seconds_estimate is not None
    assert sorted(tmp_path.rglob("*")) == before


# -- the budget --------------------------------------------------------------------------------------------


def level(folder):
    [value] = {int(v) for v in np.unique(pixels(folder / "class0" / "001.png"))}
    return value


def budgeted(tmp_path, source, **more):
    return settings(tmp_path, source, **{"method": "stand_ins.budgeted"} | more)


def test_the_budget_is_that_of_the_protection_and_settled_settings_are_on_record(tmp_path, protected):
    out = purify.run(budgeted(tmp_path, protected))
    found = manifest.read(out)
    assert level(out) == 8
    assert found.config == found.parameters["config"] == {"level": 8 / 255}
    assert found.origins["level"] == "automatic" and found.notes["asked"]


def test_the_budget_of_a_protection_further_up(tmp_path, protected):
    first = purify.run(settings(tmp_path, protected, output=tmp_path / "first"))
    assert level(purify.run(budgeted(tmp_path, first))) == 8


def test_a_named_budget_comes_first(tmp_path, protected):
    out = purify.run(budgeted(tmp_path, protected, eps="16/255"))
    assert level(out) == 16 and manifest.read(out).settings["eps"] == "16/255"
    with pytest.raises(UsageError, match="other settings"):
        purify.run(budgeted(tmp_path, protected, eps="4/255"))
    with pytest.raises(ValueError):
        budgeted(tmp_path, protected, eps=8)


def test_a_ceiling_takes_the_budget_of_the_set_it_is_like(tmp_path, protected):
    source = tmp_path / "data"
    out = purify.run(budgeted(tmp_path, source, like=protected, output=tmp_path / "like"))
    assert level(out) == 8
    assert manifest.read(out).dependency("clean") is not None  # a ceiling nevertheless
    unknown = purify.run(budgeted(tmp_path, source, output=tmp_path / "unknown"))
    assert level(unknown) == 128  # half: told nothing


def test_the_manifest_says_what_the_attacker_needs_knows_and_spends(tmp_path, protected):
    told = manifest.read(purify.run(budgeted(tmp_path, protected)))
    assert told.notes["attacker"] == {"needs": [], "knows": "budget"}
    assert 0 < told.run.measures["purifying seconds"] < told.run.seconds
    untold = manifest.read(purify.run(budgeted(tmp_path, tmp_path / "data", output=tmp_path / "untold")))
    grey = manifest.read(purify.run(settings(tmp_path, protected, output=tmp_path / "grey")))
    assert untold.notes["attacker"]["knows"] == grey.notes["attacker"]["knows"] == "nothing"


def test_a_plan_shows_what_was_settled(tmp_path, protected):
    plan = purify.plan(budgeted(tmp_path, protected))
    assert f"level {8 / 255}" in plan.notes


def test_a_prior_that_is_not_needed_is_no_part_of_it(tmp_path):
    source = owner(tmp_path / "data")
    (tmp_path / "prior.ckpt").write_bytes(b"anything")
    out = purify.run(settings(tmp_path, source, prior=tmp_path / "prior.ckpt"))
    assert [d.name for d in manifest.read(out).dependencies if d.name == "prior"] == []
    needy = settings(tmp_path, source, prior=tmp_path / "none.ckpt", method="stand_ins.primed", output=tmp_path / "q")
    with pytest.raises(ResourceError, match="expected a prior"):
        purify.run(needy)

"""What an evaluation says beside accuracies."""

import pytest
from stand_ins import owner

from ue_audit import evidence, protect, purify, train_prior
from ue_audit.settings import ProtectSettings, PurifySettings, TrainPriorSettings


@pytest.fixture
def purified(tmp_path):
    owner(tmp_path / "data", size=16)
    source = protect.run(ProtectSettings(source=tmp_path / "data", method="stand_ins.maps", output=tmp_path / "p"))
    prior = train_prior.run(
        TrainPriorSettings(
            raw=tmp_path / "data" / "raw",
            preset="tiny",
            output=tmp_path / "a.ckpt",
            layers={"flag": {"steps": 2, "batch": 4}},
        )
    )
    return purify.run(PurifySettings(source=source, prior=prior, method="stand_ins.primed", output=tmp_path / "q"))


def test_fidelity_sums_up_what_the_records_hold(purified):
    found = evidence.fidelity(purified)
    assert {"psnr", "psnr_clean", "ssim_clean", "residual_correlation"} <= set(found)
    assert found["psnr"]["n"] == 12
    assert found["psnr"]["p5"] <= found["psnr"]["mean"] <= found["psnr"]["p95"]
    assert "lpips_clean" not in found  # 16 px is below what AlexNet takes: absent, not zero


def test_the_prior_is_described_by_its_own_manifest(purified):
    found = evidence.prior_of(purified)
    assert found["name"] == "a.ckpt" and found["images"] == 12 and "0.08" in found["figures"]


def test_a_prior_whose_manifest_is_gone_is_unknown(purified, tmp_path):
    (tmp_path / "a.ckpt.ue-audit.json").unlink()
    assert evidence.prior_of(purified) is None


def test_the_commands_stand_in_the_order_they_were_run(purified, tmp_path):
    lines = evidence.commands([purified, tmp_path / "p"])
    assert [line.split()[1] for line in lines] == ["protect", "train-prior", "purify"]
    assert "--set steps=2" in lines[1] and "--method stand_ins.primed" in lines[2]


def test_what_a_prior_was_trained_on_is_sought_to_its_first_start(purified, tmp_path):
    first = evidence.trained_on([purified])
    assert [place.name for place in first] == ["a.ckpt"] and len(first[tmp_path / "a.ckpt"]["raw_pixels"]) == 12
    layers = {"flag": {"steps": 2, "batch": 4}}
    tuned = train_prior.run(
        TrainPriorSettings(
            raw=tmp_path / "data" / "raw", start=tmp_path / "a.ckpt", preset="tiny", output=tmp_path / "b.ckpt",
            layers=layers,
        )
    )  # fmt: skip
    again = purify.run(
        PurifySettings(source=tmp_path / "p", prior=tuned, method="stand_ins.primed", output=tmp_path / "r")
    )
    assert [place.name for place in evidence.trained_on([again])] == ["b.ckpt", "a.ckpt"]
    (tmp_path / "a.ckpt.ue-audit.json").unlink()
    found = evidence.trained_on([again, purified])
    assert found[tmp_path / "a.ckpt"] == {} and found[tmp_path / "b.ckpt"]["raw_prints"]

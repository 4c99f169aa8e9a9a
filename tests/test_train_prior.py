"""train-prior: one sealed file with its provenance, exact resume, fine-tuning, refusals."""

import pytest
from stand_ins import photos

from ue_audit import manifest, shards, train_prior
from ue_audit.diffusion import fit
from ue_audit.diffusion.prior import load_prior
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.settings import TrainPriorSettings


def settings(tmp_path, **more):
    layers = {"flag": {"steps": 4, "batch": 4, "check_every": 2, **more.pop("set", {})}}
    fields = {"raw": tmp_path / "raw", "output": tmp_path / "a.ckpt", "preset": "tiny", "layers": layers}
    return TrainPriorSettings(**fields | more)


@pytest.fixture
def raw(tmp_path):
    photos(tmp_path / "raw", each=8, size=16)
    return tmp_path


def test_the_file_is_sealed_with_its_provenance(raw):
    path = train_prior.run(settings(raw))
    found = manifest.read(path)
    assert load_prior(path).size == 16 and found.counts["images"] == 24
    assert len(found.notes["raw_pixels"]) == 24 and set(found.notes["figures"]) == {"0.05", "0.08", "0.13"}
    assert manifest.verify(path, chain=True).problems == []
    assert sorted(p.name for p in raw.iterdir()) == ["a.ckpt", "a.ckpt.ue-audit.json", "raw"]


def test_class_folders_of_raw_images_are_ignored(raw):
    train_prior.run(settings(raw))
    for folder in sorted((raw / "raw").iterdir()):
        for file in folder.iterdir():
            file.rename(raw / "raw" / f"{folder.name}-{file.name}")
        folder.rmdir()
    train_prior.run(settings(raw, output=raw / "b.ckpt"))
    pixels = [manifest.read(raw / name).notes["raw_pixels"] for name in ("a.ckpt", "b.ckpt")]
    assert pixels[0] == pixels[1] and len(set(pixels[0])) == 24


def test_a_killed_run_continues_to_the_same_bytes(raw, monkeypatch):
    whole = train_prior.run(settings(raw)).read_bytes()
    descend, calls = fit._Run.descend, []

    def dies(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return descend(self, *arguments)

    other = settings(raw, output=raw / "b.ckpt")
    monkeypatch.setattr(fit._Run, "descend", dies)
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train_prior.run(other)
    assert not (raw / "b.ckpt").exists() and (raw / "b.ckpt.work").is_dir()
    before = float((raw / "b.ckpt.work" / shards.CLOCK).read_bytes())
    assert before > 0 and train_prior.run(other).read_bytes() == whole
    assert not (raw / "b.ckpt.work").exists()
    assert manifest.read(raw / "b.ckpt").run.seconds > before


def test_other_settings_in_the_same_place_are_refused_by_name(raw):
    train_prior.run(settings(raw))
    with pytest.raises(UsageError) as refused:
        train_prior.run(settings(raw, set={"steps": 5}))
    assert any("steps" in line for line in refused.value.details)
    assert manifest.read(train_prior.run(settings(raw, set={"steps": 5}, fresh=True))).config["steps"] == 5


def test_a_foreign_file_is_never_overwritten(raw):
    (raw / "a.ckpt").write_bytes(b"mine")
    for fresh in (False, True):
        with pytest.raises(UsageError):
            train_prior.run(settings(raw, fresh=fresh))
    assert (raw / "a.ckpt").read_bytes() == b"mine"


def test_a_damaged_prior_is_not_up_to_date(raw):
    path = train_prior.run(settings(raw))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        train_prior.run(settings(raw))


def test_fine_tuning_starts_from_another_prior_and_says_so(raw):
    start = train_prior.run(settings(raw))
    tuned = train_prior.run(settings(raw, output=raw / "b.ckpt", start=start))
    found = manifest.read(tuned)
    assert found.notes["start"] == "a.ckpt"
    assert {d.name for d in found.dependencies} == {"raw", "start"}
    assert manifest.verify(tuned, chain=True).problems == []

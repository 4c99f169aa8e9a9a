"""protect: budgets on the written bytes, native sizes, resume, plan."""

import json

import numpy as np
import pytest
from PIL import Image
from stand_ins import owner, photos

from ue_audit import manifest, protect, purify, shards
from ue_audit.change import quantise
from ue_audit.errors import InputRefused, NonFiniteError, UsageError
from ue_audit.imagefolder import decode
from ue_audit.settings import ProtectSettings, PurifySettings
from ue_audit.statement import Budget


def settings(tmp_path, **more):
    fields = {"source": tmp_path / "data", "output": tmp_path / "out", "method": "stand_ins.maps"}
    return ProtectSettings(**fields | more)


def change(tmp_path, key):
    x = decode(tmp_path / "data" / "train" / key).pixels.astype(int)
    return decode(tmp_path / "out" / key).pixels.astype(int) - x


def test_the_written_change_is_the_class_map_in_whole_levels(tmp_path):
    owner(tmp_path / "data")
    out = protect.run(settings(tmp_path))
    changes = {key: change(tmp_path, key) for key in ("class0/000.png", "class0/001.png", "class1/000.png")}
    assert set(np.unique(changes["class0/000.png"])) == {-8, 8}  # both signs, nothing truncated
    assert (changes["class0/000.png"] == changes["class0/001.png"]).all()
    assert (changes["class0/000.png"] != changes["class1/000.png"]).any()
    assert manifest.verify(out, chain=True).problems == []
    assert {r["linf"] for r in manifest.records(out)} == {8}


def test_a_method_that_asks_for_more_is_held_to_its_budget(tmp_path):
    owner(tmp_path / "data")
    protect.run(settings(tmp_path, layers={"flag": {"scale": 3.0}}))
    assert np.abs(change(tmp_path, "class2/003.png")).max() == 8


def test_test_images_are_named_and_never_protected(tmp_path):
    owner(tmp_path / "data")
    out = protect.run(settings(tmp_path))
    assert manifest.test_of(out).resolve() == (tmp_path / "data" / "test").resolve()
    assert manifest.clean_of(out).resolve() == (tmp_path / "data" / "train").resolve()
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == ["class0", "class1", "class2"]


@pytest.mark.parametrize("limit", [1.0, 0.25, 0.05])
def test_l2_holds_after_rounding_and_is_nearly_used_up(limit):
    rng = np.random.default_rng(0)
    budget = Budget(norm="l2", limit=limit)
    for _ in range(20):
        x = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        levels = rng.standard_normal((4, 4, 3)).repeat(8, 0).repeat(8, 1)
        levels *= 255 * limit / np.linalg.norm(levels)
        used = budget.measure(x, quantise(x, levels, budget))
        assert used <= limit
        if limit == 1.0:  # below, a whole level of an 8 x 8 patch is too coarse a step
            assert used >= 0.98


def test_the_l2_budget_grows_with_the_image(tmp_path):
    owner(tmp_path / "data", size=16)
    out = protect.run(settings(tmp_path, method="stand_ins.ball"))
    lengths = [r["l2"] for r in manifest.records(out)]
    assert max(lengths) <= 0.5 and min(lengths) > 0.45  # 1.0 at 32 px is 0.5 at 16 px
    assert manifest.verify(out, chain=True).problems == []


def test_mixed_sizes_are_protected_at_their_own_size(tmp_path):
    photos(tmp_path / "data" / "train")
    big = Image.fromarray(np.full((20, 30, 3), 120, np.uint8))
    big.save(tmp_path / "data" / "train" / "class0" / "big.png")
    with pytest.raises(UsageError, match="30x20"):
        protect.run(settings(tmp_path))
    out = protect.run(settings(tmp_path, size=8))
    delta = change(tmp_path, "class0/big.png")
    assert delta.shape == (20, 30, 3) and 0 < np.abs(delta).max() <= 8
    assert manifest.verify(out, chain=True).problems == []
    resized = protect.run(settings(tmp_path, size=8, resize_output=True, output=tmp_path / "small"))
    assert decode(resized / "class0" / "big.png").pixels.shape == (8, 8, 3)
    assert manifest.verify(resized, chain=True).problems == []


def test_the_same_command_again_is_up_to_date_and_another_seed_is_refused(tmp_path):
    owner(tmp_path / "data")
    out = protect.run(settings(tmp_path))
    before = (out / manifest.MANIFEST).read_bytes()
    assert protect.run(settings(tmp_path)) == out
    assert (out / manifest.MANIFEST).read_bytes() == before
    with pytest.raises(UsageError) as refused:
        protect.run(settings(tmp_path, seed=1))
    assert any(line.startswith("seed:") for line in refused.value.details)
    protect.run(settings(tmp_path, seed=1, fresh=True))
    assert (out / manifest.MANIFEST).read_bytes() != before


def test_two_runs_differ_in_run_details_only(tmp_path):
    owner(tmp_path / "data")
    texts = []
    for _ in range(2):
        document = json.loads((protect.run(settings(tmp_path, fresh=True)) / manifest.MANIFEST).read_bytes())
        del document["predicate"]["runDetails"]
        texts.append(json.dumps(document))
    assert texts[0] == texts[1]


def test_bad_images_are_listed_before_work_starts(tmp_path):
    owner(tmp_path / "data")
    (tmp_path / "data" / "train" / "class0" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "data" / "train" / "class1" / "empty.png").write_bytes(b"")
    with pytest.raises(InputRefused) as refused:
        protect.run(settings(tmp_path))
    assert len(refused.value.details) == 2 and not (tmp_path / "out").exists()
    out = protect.run(settings(tmp_path, on_bad="skip", max_bad=0.5))
    counts = manifest.read(out).counts
    assert (counts["seen"], counts["taken"], counts["written"], counts["refused"]) == (14, 12, 12, 2)


def test_a_plan_writes_nothing(tmp_path):
    owner(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    plan = protect.plan(settings(tmp_path))
    assert (plan.images, plan.classes, plan.shards) == (12, 3, 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_nan_is_never_written(tmp_path):
    owner(tmp_path / "data")
    with pytest.raises(NonFiniteError):
        protect.run(settings(tmp_path, layers={"flag": {"eps": 1e38, "scale": 1e38}}))
    assert not list((tmp_path / "out").rglob("*.png"))


def test_a_share_is_protected_and_the_others_are_copied(tmp_path):
    owner(tmp_path / "data", each=6)
    out = protect.run(settings(tmp_path, ratio=0.5))
    changed = [r["path"] for r in manifest.records(out) if r["linf"]]
    assert len(changed) == 9 and {key.split("/")[0] for key in changed} == {"class0", "class1", "class2"}
    assert all(np.unique(change(tmp_path, key)).tolist() == [-8, 8] for key in changed)
    made = manifest.read(out)
    assert made.summary["images protected"] == made.notes["protected"] == 9 and made.counts["written"] == 18
    assert manifest.verify(out, chain=True).problems == []
    with pytest.raises(UsageError) as caught:
        protect.run(settings(tmp_path))  # the same folder with another share
    assert "ratio" in " ".join(caught.value.details)


def test_a_change_without_a_working_size_is_made_at_native_size(tmp_path):
    for side in (8, 12, 20):
        photos(tmp_path / "data" / "train", each=1, classes=2, size=side)
        for file in (tmp_path / "data" / "train").glob("*/000.png"):
            file.rename(file.with_name(f"{side}.png"))
    out = protect.run(settings(tmp_path, method="stand_ins.dot", size=8))
    for side in (8, 12, 20):
        assert np.argwhere(change(tmp_path, f"class1/{side}.png").any(2)).tolist() == [[side // 2, side // 2]]
    assert manifest.verify(out, chain=True).problems == []


def test_an_encoder_is_recorded_by_its_digest_and_refused_by_methods_without_one(tmp_path):
    owner(tmp_path / "data")
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    out = protect.run(settings(tmp_path, method="stand_ins.dot", encoder=weights))
    assert np.argwhere(change(tmp_path, "class0/000.png").any(2)).tolist() == [[0, 0]]
    named = {d.name: d.digest for d in manifest.read(out).dependencies}
    assert named["encoder"] == {"sha256": manifest.file_sha256(weights)}
    weights.write_bytes(b"others")
    assert [p.what for p in manifest.verify(out, chain=True).problems]
    with pytest.raises(UsageError, match="encoder"):
        protect.run(settings(tmp_path, method="stand_ins.dot", encoder=weights))  # other weights, same folder
    with pytest.raises(UsageError, match="uses no encoder"):
        protect.run(settings(tmp_path, output=tmp_path / "else", encoder=weights))


def test_the_manifest_says_what_the_noise_is_like(tmp_path):
    owner(tmp_path / "data", each=10)
    found = manifest.read(protect.run(settings(tmp_path))).notes
    assert found["traits"]["separability"] == 1.0 and found["traits"]["images"] == 30  # a map per class
    assert 0.6 < found["traits"]["high_frequency_share"] < 0.9 and found["passes"] == 0.0  # white maps: 3/4


def test_what_the_noise_is_like_is_read_again_after_an_interruption(tmp_path, monkeypatch):
    owner(tmp_path / "data", each=10)
    monkeypatch.setattr(shards, "SHARD_PIXELS", 8 * 8 * 8)
    whole = manifest.read(protect.run(settings(tmp_path))).notes["traits"]
    committed = []
    commit = shards.Work.commit

    def stopped(work, shard, files, records):
        if len(committed) == 2:
            raise KeyboardInterrupt
        committed.append(shard)
        commit(work, shard, files, records)

    again = settings(tmp_path, output=tmp_path / "again")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shards.Work, "commit", stopped)
        protect.run(again)
    assert manifest.read(protect.run(again)).notes["traits"] == whole and whole["images"] == 30


def test_the_plan_counts_the_part_that_is_protected(tmp_path):
    owner(tmp_path / "data", each=6)
    notes = " ".join(protect.plan(settings(tmp_path, ratio=0.5)).notes)
    assert "0 forward and backward passes" in notes


def test_a_flat_folder_is_protected_purified_and_verified_as_it_lies(tmp_path):
    photos(tmp_path / "one", classes=1, each=5)
    (tmp_path / "one" / "class0").rename(tmp_path / "data")
    out = protect.run(settings(tmp_path, method="stand_ins.dot"))
    assert sorted(p.name for p in out.glob("*.png")) == [f"{n:03d}.png" for n in range(5)]
    assert {r["label"] for r in manifest.records(out)} == {None}
    again = purify.run(PurifySettings(source=out, output=tmp_path / "grey", method="stand_ins.grey"))
    assert manifest.verify(again, chain=True).problems == []
    assert manifest.records(again)[0]["psnr_clean"] > 0  # the originals were found

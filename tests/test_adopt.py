"""import: pairs, exact pixels, budgets, sizes, kill and resume, and the rest of the audit on what was imported."""

import errno
import json
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from kill import beside, changes, killed_runs, refused
from PIL import Image
from stand_ins import owner
from test_shards import same_but_for_run_details
from trees import brighter, contents, protect, saved

from ue_audit import adopt, chain, cli, evaluate, evidence, manifest, purify, report, shards, storage
from ue_audit.errors import InputRefused, IntegrityError, ResourceError, UsageError
from ue_audit.imagefolder import decode
from ue_audit.settings import AdoptSettings, EvaluateSettings, PurifySettings, ReportSettings
from ue_audit.spelling import command

CLEAN, FOREIGN, OUT = Path("data/train"), Path("theirs"), Path("out")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/train, data/test and, made by another tool, theirs/: class k brighter by k + 1 levels."""
    monkeypatch.chdir(tmp_path)
    owner(Path("data"))
    make()
    return tmp_path


def make(kind: str = "PNG", ending: str = ".png", flat: bool = False, **options: object) -> None:
    for number, path in enumerate(sorted(CLEAN.rglob("*.png"))):
        y = brighter(decode(path).pixels, int(path.parent.name[-1]) + 1)
        place = FOREIGN / (f"{number}{ending}" if flat else f"{path.parent.name}/{path.stem}{ending}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(saved(y, kind, **options))
        if flat:
            path.rename(path.with_name(f"{number}.png"))


def settings(**more: object) -> AdoptSettings:
    return AdoptSettings(**{"source": FOREIGN, "clean": CLEAN, "output": OUT} | more)


def allowing(**more: object) -> AdoptSettings:
    return settings(layers={"flag": more})


# -- what comes in -----------------------------------------------------------------------------------------


def test_pixels_come_in_exactly_and_the_chain_verifies() -> None:
    out = adopt.run(allowing(eps="3/255"))
    for path in CLEAN.rglob("*.png"):
        key = path.relative_to(CLEAN)
        assert np.array_equal(decode(out / key).pixels, decode(FOREIGN / key).pixels)
    assert manifest.verify(out, chain=True).problems == []
    m = manifest.read(out)
    assert (m.stage, m.method, m.budget.norm, 255 * m.budget.limit) == ("protect", "imported", "linf", 3)
    assert (m.counts["written"], m.counts["unchanged"], m.counts["lossy"], m.warnings) == (12, 0, 0, [])
    assert {r["path"]: r["linf"] for r in manifest.records(out)}["class1/000.png"] == 2
    assert manifest.clean_of(out).resolve() == CLEAN.resolve() and manifest.test_of(out).resolve().name == "test"


def test_a_record_names_the_file_it_comes_from() -> None:
    [record] = [r for r in manifest.records(adopt.run(settings())) if r["path"] == "class2/003.png"]
    assert (record["source"], record["imported"], record["label"]) == ("class2/003.png", "class2/003.png", "class2")
    assert record["imported_sha256"] == manifest.file_sha256(FOREIGN / "class2/003.png")
    assert record["source_sha256"] == manifest.file_sha256(CLEAN / "class2/003.png")
    assert (record["linf"], record["changed"], record["l2"]) == (3, 64, pytest.approx(3 * np.sqrt(192) / 255))


@pytest.mark.parametrize(("kind", "ending", "options"), [("BMP", ".bmp", {}), ("WEBP", ".webp", {"lossless": True})])
def test_other_lossless_formats_keep_their_pixels(kind: str, ending: str, options: dict[str, object]) -> None:
    shutil.rmtree(FOREIGN)
    make(kind, ending, **options)
    out = adopt.run(allowing(eps="3/255"))
    assert np.array_equal(decode(out / "class0/000.png").pixels, decode(FOREIGN / f"class0/000{ending}").pixels)
    assert manifest.read(out).warnings == [] and manifest.verify(out, chain=True).problems == []


@pytest.mark.parametrize(("kind", "ending"), [("JPEG", ".jpg"), ("WEBP", ".webp")])
def test_lossy_files_are_warned_of(kind: str, ending: str) -> None:
    shutil.rmtree(FOREIGN)
    make(kind, ending)
    m = manifest.read(adopt.run(settings()))
    assert m.warnings[0].startswith("12 of 12 protected images are JPEG or lossy WebP") and m.counts["lossy"] == 12
    assert manifest.verify(OUT, chain=True).problems == []


def test_a_flat_folder_is_paired_by_name() -> None:
    shutil.rmtree(FOREIGN)
    make(flat=True)
    out = adopt.run(allowing(eps="3/255"))
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == ["class0", "class1", "class2"]
    assert {r["linf"] for r in manifest.records(out) if r["label"] == "class2"} == {3}
    assert manifest.verify(out, chain=True).problems == []


def test_without_a_budget_the_largest_changes_are_recorded() -> None:
    m = manifest.read(adopt.run(settings()))
    assert m.budget.norm == "none"
    assert m.notes["largest"] == {"linf": 3, "l2": pytest.approx(32 / 8 * 3 * np.sqrt(192) / 255), "l0": 64}
    assert m.notes["traits"]["high_frequency_share"] == pytest.approx(0, abs=1e-4), "brightness has no fine detail"
    assert m.notes["traits"]["separability"] is None, "12 images say nothing"


def test_the_changes_alone_tell_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ue_audit.traits.FEWEST", 12)
    m = manifest.read(adopt.run(settings()))
    assert m.notes["traits"]["separability"] == 1.0 and m.summary["separability of the changes"] == 1.0


def test_unchanged_images_are_counted_and_warned_of() -> None:
    for name in ("class0/000.png", "class1/002.png"):
        (FOREIGN / name).write_bytes((CLEAN / name).read_bytes())
    m = manifest.read(adopt.run(settings()))
    assert m.counts["unchanged"] == 2 and m.warnings == ["2 of 12 images are unchanged"]


def test_pairs_that_are_hardly_the_same_pictures_are_warned_of() -> None:
    for path in FOREIGN.rglob("*.png"):
        path.write_bytes(saved(255 - decode(path).pixels))
    assert "are these the same pictures?" in manifest.read(adopt.run(settings())).warnings[0]


# -- budgets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "kept", "broken"),
    [("eps", "3/255", "2/255"), ("l2", 4 * 3 * 192**0.5 / 255, 0.65), ("pixels", 64, 63)],
)
def test_a_budget_is_checked_on_every_image(key: str, kept: object, broken: object) -> None:
    with pytest.raises(IntegrityError) as caught:
        adopt.run(allowing(**{key: broken}))
    assert caught.value.exit_code == 4 and any(line.startswith("class2/000.png: ") for line in caught.value.details)
    assert len(caught.value.details) == {"eps": 4, "l2": 4, "pixels": 12}[key]
    assert not OUT.exists(), "nothing is written of a set that is refused"
    assert manifest.verify(adopt.run(allowing(**{key: kept})), chain=True).problems == []


def test_the_worst_images_come_first() -> None:
    (FOREIGN / "class0/001.png").write_bytes(saved(brighter(decode(CLEAN / "class0/001.png").pixels, 9)))
    with pytest.raises(IntegrityError) as caught:
        adopt.run(allowing(eps="2/255"))
    assert "5 of 12 images" in caught.value.message and "9 levels" in caught.value.message
    assert caught.value.details[0] == "class0/001.png: 9 levels, allowed 2 levels"


@pytest.mark.parametrize("flags", [{"eps": "8/255", "pixels": 1}, {"eps": 0}, {"l2": "x"}, {"epsilon": 0.1}])
def test_what_is_no_budget(flags: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        adopt.run(allowing(**flags))


# -- what is refused ---------------------------------------------------------------------------------------


def test_images_without_a_counterpart_are_all_listed() -> None:
    (FOREIGN / "class0/000.png").rename(FOREIGN / "class0/other.png")
    (CLEAN / "class1/003.png").unlink()
    with pytest.raises(InputRefused) as caught:
        adopt.run(settings())
    assert caught.value.details == (
        "class0/000.png: no protected image",
        "class0/other.png: no clean image",
        "class1/003.png: no clean image",
    )
    assert not OUT.exists()


def test_a_few_without_a_clean_image_can_be_left_out() -> None:
    (FOREIGN / "class0/more.png").write_bytes(saved(brighter(decode(CLEAN / "class0/000.png").pixels, 1)))
    (FOREIGN / "settings.json").write_bytes(b"{}")
    with pytest.raises(InputRefused):
        adopt.run(settings(on_bad="skip"))  # 1 of 13 is more than 1 %
    m = manifest.read(adopt.run(settings(on_bad="skip", max_bad=0.1)))
    assert m.counts["left_out"] == 2 and m.counts["written"] == 12 and m.warnings[0].startswith("2 files were left out")
    assert manifest.verify(OUT, chain=True).problems == []


def test_two_candidates_are_an_error() -> None:
    (FOREIGN / "class0/000.png").rename(FOREIGN / "class0/000.bmp")
    (FOREIGN / "class0/000.bmp").write_bytes(saved(decode(CLEAN / "class0/000.png").pixels, "BMP"))
    (FOREIGN / "class0/000.webp").write_bytes(saved(decode(CLEAN / "class0/000.png").pixels, "WEBP"))
    with pytest.raises(InputRefused) as caught:
        adopt.run(settings())
    assert caught.value.details == ("class0/000.png: could be class0/000.bmp or class0/000.webp",)


def test_hostile_files_are_listed_before_work_starts() -> None:
    (FOREIGN / "class0/000.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (FOREIGN / "class1/001.png").write_bytes(b"")
    (FOREIGN / "class1/002.png").write_bytes(saved(decode(CLEAN / "class1/002.png").pixels, "JPEG"))
    with pytest.raises(InputRefused) as caught:
        adopt.run(settings())
    reasons = [line.split(": ")[1].split(" ")[0] for line in caught.value.details]
    assert len(reasons) == 3 and reasons[1:] == ["empty", "wrong-suffix"] and not OUT.exists()
    with pytest.raises(InputRefused):
        adopt.run(settings(on_bad="skip", max_bad=1.0))  # a clean image would be left without its protected one


@pytest.mark.skipif(os.name != "posix", reason="links and odd names")
def test_links_that_leave_the_folder_are_not_followed() -> None:
    (FOREIGN / "class0/000.png").unlink()
    (FOREIGN / "class0/000.png").symlink_to(CLEAN.resolve() / "class0/000.png")
    (FOREIGN / "class0/a\nb.png").write_bytes(b"x")
    with pytest.raises(InputRefused) as caught:
        adopt.run(settings())
    assert caught.value.details == ("class0/000.png: no protected image",)


def test_bad_clean_images_are_left_out_in_pairs() -> None:
    (CLEAN / "class0/000.png").write_bytes(b"")
    with pytest.raises(InputRefused, match="data/train"):
        adopt.run(settings())
    out = adopt.run(settings(on_bad="skip", max_bad=0.1))
    counts = manifest.read(out).counts
    assert (counts["seen"], counts["taken"], counts["refused"], counts["written"]) == (12, 11, 1, 11)
    assert manifest.verify(out, chain=True).problems == []


def test_our_own_outputs_and_the_same_folder_are_refused() -> None:
    ours = protect(CLEAN, Path("ours"))
    for wrong in ({"source": ours}, {"clean": ours}, {"source": CLEAN}, {"output": FOREIGN / "in"}):
        with pytest.raises(UsageError):
            adopt.run(settings(**wrong))


@pytest.mark.parametrize("name", ["", "../up", "a/b", "two\nlines", "-x", ".hidden", "x" * 65])
def test_a_method_is_a_plain_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import", "--clean", str(CLEAN), f"--method={name}", str(FOREIGN)]) == 2


# -- sizes -------------------------------------------------------------------------------------------------


def enlarge(folder: Path, side: int) -> None:
    for path in folder.rglob("*.png"):
        path.write_bytes(saved(Image.fromarray(decode(path).pixels).resize((side, side), Image.Resampling.NEAREST)))


def test_another_size_than_the_clean_image_needs_a_working_size() -> None:
    enlarge(CLEAN, 24)
    with pytest.raises(UsageError) as caught:
        adopt.run(settings())
    assert "found 12 of 12" in caught.value.message and "--size 8" in caught.value.hint
    assert caught.value.details[0] == "class0/000.png: 8x8, clean 24x24"
    out = adopt.run(settings(size=8))
    assert np.array_equal(decode(out / "class0/000.png").pixels, decode(FOREIGN / "class0/000.png").pixels)
    assert manifest.verify(out, chain=True).problems == []
    assert [w for w in manifest.read(out).warnings if "clean images were resized to 8 px" in w]


def test_protected_images_that_are_resized_are_warned_of() -> None:
    enlarge(FOREIGN, 16)
    out = adopt.run(settings(size=8))
    assert manifest.read(out).warnings[0].startswith("12 of 12 protected images were resized to 8 px")
    assert decode(out / "class0/000.png").pixels.shape == (8, 8, 3)
    assert manifest.verify(out, chain=True).problems == []


def test_mixed_sizes_come_in_at_their_own() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(20, 200, (20, 30, 3)).astype(np.uint8)
    (CLEAN / "class0/big photo ü.png").write_bytes(saved(x))
    (FOREIGN / "class0/big photo ü.png").write_bytes(saved(brighter(x, 3)))
    out = adopt.run(allowing(eps="3/255"))
    assert decode(out / "class0/big photo ü.png").pixels.shape == (20, 30, 3)
    assert manifest.verify(out, chain=True).problems == []


def test_grey_images_come_in_as_three_channels() -> None:
    for folder in (CLEAN, FOREIGN):
        x = decode(folder / "class0/000.png").pixels[..., 0]
        (folder / "class0/000.png").write_bytes(saved(Image.fromarray(x)))
    out = adopt.run(allowing(eps="3/255"))
    assert decode(out / "class0/000.png").pixels.shape == (8, 8, 3)
    assert manifest.read(out).notes["actions"] == {"grey": 1}


def test_a_part_of_the_images() -> None:
    out = adopt.run(settings(limit=6))
    assert [r["path"] for r in manifest.records(out)] == [f"class{k}/00{n}.png" for k in range(3) for n in range(2)]
    assert manifest.verify(out, chain=True).problems == [] and manifest.read(out).notes["partial"]


# -- again, and in between -----------------------------------------------------------------------------------


def test_the_same_command_again_is_up_to_date_and_another_is_refused() -> None:
    adopt.run(settings())
    before = contents(OUT)
    adopt.run(settings())
    assert contents(OUT) == before
    with pytest.raises(UsageError) as caught:
        adopt.run(settings(method="tap"))
    assert any(line.startswith("method:") for line in caught.value.details)
    adopt.run(settings(method="tap", fresh=True))
    assert manifest.read(OUT).method == "tap"


def test_a_changed_protected_image_is_other_work() -> None:
    adopt.run(settings())
    (FOREIGN / "class0/000.png").write_bytes(saved(brighter(decode(CLEAN / "class0/000.png").pixels, 7)))
    with pytest.raises(UsageError, match="other settings"):
        adopt.run(settings())
    assert any("[imported]" in problem.path for problem in manifest.verify(OUT, chain=True).problems)


def test_two_runs_differ_in_run_details_only() -> None:
    texts = []
    for _ in range(2):
        document = json.loads((adopt.run(settings(fresh=True)) / manifest.MANIFEST).read_bytes())
        del document["predicate"]["runDetails"]
        texts.append(json.dumps(document))
    assert texts[0] == texts[1]


def test_a_plan_writes_nothing() -> None:
    before = sorted(Path().rglob("*"))
    plan = adopt.plan(settings())
    assert (plan.stage, plan.images, plan.classes, plan.refused, plan.shards) == ("import", 12, 3, 0, 1)
    assert plan.seconds_estimate > 0 and sorted(Path().rglob("*")) == before


@pytest.mark.skipif(os.name != "posix", reason="forks and signals")
def test_killed_anywhere_and_run_again_is_the_unbroken_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_PIXELS", 4 * 8 * 8)
    monkeypatch.setattr(storage, "_sync_one", lambda path: None)
    monkeypatch.setattr(storage, "_sync_file_system", lambda folder: True)

    def work() -> None:
        with shards.lock(OUT):
            adopt.run(allowing(eps="8/255"))

    count = len(changes(work))
    unbroken = contents(OUT)
    points = range(1, count + 1) if os.environ.get("UE_AUDIT_SLOW") == "1" else range(1, count + 1, max(1, count // 8))
    for k, was_killed in killed_runs(work, points, [OUT]):
        assert was_killed
        work()
        assert manifest.verify(OUT, chain=True).problems == [], f"killed at change {k} of {count}"
        assert not any(part.exists() for part in beside(OUT)[1:])
        assert same_but_for_run_details(contents(OUT), unbroken), f"killed at change {k} of {count}"


def test_a_full_disk_is_a_resource_error_and_resumes() -> None:
    with refused(6, errno.ENOSPC), pytest.raises(ResourceError):
        adopt.run(settings())
    assert manifest.verify(adopt.run(settings())).problems == []


# -- the rest of the audit -----------------------------------------------------------------------------------


def test_the_rest_of_the_audit_runs_on_it() -> None:
    assert cli.main(shlex.split("import --clean data/train --method tap --set eps=8/255 theirs")) == 0
    imported = Path("theirs.tap")
    assert manifest.newest("protect") == imported
    purified = purify.run(PurifySettings(source=imported, method="stand_ins.grey", output=Path("theirs.grey")))
    asked = EvaluateSettings(folders=(purified,), learners=("stand_ins.centroids",), seeds=2, output=Path("data.eval"))
    evaluation = evaluate.run(asked)
    roles = {(r["cell"]["role"], r["cell"]["folder"]) for r in manifest.records(evaluation)}
    assert {("clean", "train"), ("protected", "theirs.tap"), ("purified", "theirs.grey")} <= roles
    assert {role for role, _ in roles} == {"clean", "protected", "purified", "noise"}
    made = report.run(ReportSettings(evaluation=evaluation, output=Path("data.report"), images=False))
    assert manifest.verify(made, chain=True).problems == []
    document = json.loads((made / "report.json").read_bytes())
    assert "ue-audit import --clean data/train --method tap --set eps=8/255 theirs" in document["commands"]
    assert "tap" in {row["method"] for row in document["provenance"]}


def test_the_line_in_a_report_asks_for_the_same_import() -> None:
    asked = settings(method="tap", size=8, on_bad="skip", layers={"flag": {"eps": "8/255"}})
    [line] = evidence.commands([adopt.run(asked)])
    assert line == command("import", asked)


def test_the_command_ends_with_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["import", "--clean", str(CLEAN), "--set", "eps=8/255", str(FOREIGN)]
    assert cli.main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["summary"]["images imported"] == 12 and document["summary"]["largest change (levels)"] == 3
    assert document["next"] == "ue-audit purify --prior PRIOR.ckpt theirs.imported"
    assert cli.main([*words, "--show-config"]) == 0
    assert "eps: 8/255" in capsys.readouterr().out
    assert cli.main(["import", "--clean", str(CLEAN), "--set", "eps=1/255", "-o", "other", str(FOREIGN)]) == 4
    assert "class2/000.png: 3 levels, allowed 1 levels" in capsys.readouterr().err
    assert cli.main(["import", str(FOREIGN)]) == 2


def test_the_stage_behind_the_command() -> None:
    assert chain.module("import") is adopt

"""What a manifest says, how it is written and read back, and which output came from which."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import brighter, contents, image_tree, noise, protect, saved

from ue_audit import digests, imagefolder, manifest, shards
from ue_audit.errors import IntegrityError, NonFiniteError, UsageError
from ue_audit.manifest import Budget, Manifest
from ue_audit.settings import ProtectSettings, TrainPriorSettings
from ue_audit.statement import parse, render

pytestmark = pytest.mark.usefixtures("no_sync")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a set of all parts, and a protected one."""
    monkeypatch.chdir(tmp_path)
    image_tree(Path("data/train"))
    image_tree(Path("data/test"), each=2)
    image_tree(Path("data/val"), each=1)
    protect(Path("data/train"), Path("data.emn"))
    return tmp_path


def child(parent: Path, output: Path, stage: str = "purify", role: str = "protected", **fields: Any) -> Path:
    """An output of any stage, made from `parent`."""
    taken = imagefolder.intake(imagefolder.scan(parent))
    work = shards.Work.open(output, {"stage": stage, "output": output.name})
    files, records = {}, []
    for row, path in enumerate(taken.outputs()):
        files[path] = imagefolder.encode_png(brighter(taken.data.pixels[row], -1))
        image = imagefolder.decode(files[path])
        found = {"sha256": image.sha256, "pixels_sha256": imagefolder.pixels_sha256(image.pixels)}
        records.append(taken.describe(row, path) | found | {"width": 8, "height": 8})
    work.commit("0", files, records)
    dependency = manifest.dependency(role, parent, output=output, tree=manifest.source_digest(taken.sources))
    return work.seal(manifest.statement(stage=stage, method="darker", dependencies=[dependency], **fields))


def prior(raw: Path, output: Path, data: bytes = b"weights") -> Path:
    tree = manifest.source_digest(imagefolder.scan(raw, flat=True))
    dependency = manifest.dependency("raw", raw, output=output, tree=tree, flat=True)
    statement = manifest.statement(stage="train-prior", method="ddpm", dependencies=[dependency])
    return shards.seal_file(output, data, statement)


# -- the form ----------------------------------------------------------------------------------------------


def example(**fields: Any) -> Manifest:
    values: dict[str, Any] = {
        "stage": "protect",
        "method": "mylab.ops/2",
        "config": {"eps": "8/255", "rounds": 20, "none": None, "list": [1, 2.5], "nested": {"a": True}},
        "budget": {"norm": "linf", "limit": "8/255"},
        "counts": {"seen": 3},
        "notes": {"text": "naïve 日本 [/nope] <script>"},
        "warnings": ["one", "two"],
        "dependencies": [
            manifest.Dependency(name="source", uri="../data", digest={"tree": "0" * 64}, skipped=("a/1.png",)),
            manifest.Dependency(name="prior", uri="../p.ckpt", digest={"sha256": "1" * 64}),
        ],
    }
    return manifest.statement(**(values | fields))


def test_it_is_an_in_toto_statement_with_slsa_provenance() -> None:
    nested = json.loads(render(example(tree="ab" * 32, records_sha256="cd" * 32)))
    assert nested["_type"] == "https://in-toto.io/Statement/v1"
    assert nested["subject"] == [{"name": ".", "digest": {"dirHash1": "ab" * 32, "records": "cd" * 32}}]
    build, details = nested["predicate"]["buildDefinition"], nested["predicate"]["runDetails"]
    assert build["buildType"] == "urn:ue-audit:protect/mylab.ops/2/1"
    assert build["externalParameters"]["config"]["eps"] == "8/255"
    assert [d["name"] for d in build["resolvedDependencies"]] == ["source", "prior"]
    assert set(details) == {"builder", "metadata", "run"}


def test_it_reads_back_as_it_was() -> None:
    m = example(seed=7, summary={"images": 3}, run={"resumed": 2, "seconds": 1.5})
    assert parse(render(m), "here") == m


def test_numbers_of_numpy_and_paths_are_recorded_plainly() -> None:
    m = example(notes={"a": np.float32(0.5), "b": np.int64(3), "c": Path("x/y"), "d": (1, 2)})
    assert parse(render(m), "here").notes == {"a": 0.5, "b": 3, "c": "x/y", "d": [1, 2]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("nan")])
def test_what_is_not_a_number_is_never_recorded(value: float) -> None:
    with pytest.raises(NonFiniteError):
        render(example(notes={"psnr": value}))
    with pytest.raises(NonFiniteError):
        digests.record_lines([{"path": "a", "psnr": value}])


def test_settings_give_the_command_and_the_seed() -> None:
    m = manifest.statement(stage="protect", method="emn", settings=ProtectSettings(source=Path("data"), seed=3))
    assert m.command.startswith("ue-audit protect") and "--seed 3" in m.command and m.seed == 3
    assert m.settings["source"] == "data"


@pytest.mark.parametrize("kind", ["truncated", "empty", "list", "null", "number", "binary", "deep", "missing", "extra"])
def test_a_damaged_manifest_is_an_integrity_error(kind: str) -> None:
    whole = render(example())
    nested = json.loads(whole)
    nested["predicate"].pop("result")
    extra = json.loads(whole) | {"extra": 1}
    damaged = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "list": b"[]",
        "null": b"null",
        "number": b"1e999",
        "binary": bytes(range(256)),
        "deep": b"[" * 100_000,
        "missing": json.dumps(nested).encode(),
        "extra": json.dumps(extra, indent=2).encode(),
    }[kind]
    with pytest.raises(IntegrityError):
        parse(damaged, "here")


def test_every_flipped_bit_of_a_manifest_alone_is_found() -> None:
    """Without the sums: the manifest is one form of its content, and carries the hash of it."""
    whole = render(example())
    for at in range(len(whole)):
        with pytest.raises(IntegrityError):
            parse(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :], "here")


def test_a_consistent_edit_is_found_too() -> None:
    edited = render(example()).replace(b'"rounds": 20', b'"rounds": 10')
    with pytest.raises(IntegrityError, match="was changed"):
        parse(edited, "here")


def test_no_machine_path_or_name_is_kept(place: Path) -> None:
    work = shards.Work.open(place / "out", {"raw": str(place / "data"), "deep": [{"x": place / "data" / "train"}]})
    work.commit("0", {}, [])
    work.seal(manifest.statement(stage="x", method="y", settings={"source": str(place / "data"), "n": 1}))
    text = (place / "out" / manifest.MANIFEST).read_text()
    assert str(place) not in text and manifest.read(place / "out").settings == {"source": "data", "n": 1}
    assert manifest.read(place / "out").parameters == {"raw": "data", "deep": [{"x": "data/train"}]}


# -- digests -----------------------------------------------------------------------------------------------


def test_the_tree_digest_depends_on_content_and_names_and_not_on_order() -> None:
    pairs = [("a/1.png", "0" * 64), ("b/2.png", "1" * 64)]
    assert digests.tree_digest(pairs) == digests.tree_digest(reversed(pairs))
    others = [pairs[:1], [("a/1.png", "1" * 64), ("b/2.png", "0" * 64)], [("a/3.png", "0" * 64), pairs[1]]]
    assert len({digests.tree_digest(other) for other in [pairs, *others]}) == 4


def test_the_digest_of_a_plain_folder_is_the_same_from_files_and_from_records(place: Path) -> None:
    listing = imagefolder.scan(Path("data/train"))
    assert manifest.source_digest(listing) == manifest.source_digest(imagefolder.intake(listing).sources)


def test_an_output_s_own_tree_is_the_digest_of_its_files(place: Path) -> None:
    assert manifest.read(Path("data.emn")).tree == manifest.source_digest(imagefolder.scan(Path("data.emn")))


def test_an_output_without_files_is_named_by_its_records(tmp_path: Path) -> None:
    def trainings(name: str, accuracy: float) -> str:
        work = shards.Work.open(tmp_path / name, {})
        work.commit("0", {}, [{"path": "trainings/1", "last": accuracy}])
        return manifest.read(work.seal(manifest.statement(stage="evaluate", method="supervised"))).tree

    assert trainings("one", 0.5) == trainings("two", 0.5) != trainings("three", 0.6)


# -- budgets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", range(12))
def test_linf_is_counted_in_whole_levels(levels: int) -> None:
    x = np.full((4, 4, 3), 100, np.uint8)
    y = x.copy()
    y[1, 2, 0] += levels
    budget = Budget(norm="linf", limit="8/255")
    assert budget.holds(x, y) == (levels <= 8)
    assert budget.measure(x, y) == levels / 255


def test_l2_by_hand_and_its_growth_with_the_image() -> None:
    """3-4-5: changes of 3 and 4 levels have length 5/255. The same length per pixel is allowed at every size."""
    x = np.zeros((32, 32, 3), np.uint8)
    y = x.copy()
    y[0, 0, 0], y[9, 9, 1] = 3, 4
    assert Budget(norm="l2", limit=5 / 255).holds(x, y) and not Budget(norm="l2", limit=4.999 / 255).holds(x, y)
    assert Budget(norm="l2", limit=1).at(32, 32) == 1
    assert Budget(norm="l2", limit=1).at(64, 128) == pytest.approx(8**0.5)
    assert Budget(norm="linf", limit=0.1).at(64, 128) == 0.1


def test_l0_counts_pixels_and_none_holds_always() -> None:
    x = np.zeros((4, 4, 3), np.uint8)
    y = x.copy()
    y[0, 0], y[1, 1, 2] = 255, 1
    assert Budget(norm="l0", limit=2).holds(x, y) and not Budget(norm="l0", limit=1).holds(x, y)
    assert Budget(norm="none").holds(x, 255 - x)


# -- lineage -----------------------------------------------------------------------------------------------


def test_find_and_read(place: Path) -> None:
    assert manifest.find(Path("data")) is None and manifest.find(Path("nothing")) is None
    assert manifest.read(Path("data.emn")).method == "brighter"
    with pytest.raises(UsageError, match="no manifest there"):
        manifest.read(Path("data"))
    with pytest.raises(UsageError, match="nothing there"):
        manifest.read(Path("nothing"))
    (Path("data.emn") / manifest.MANIFEST).unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        manifest.find(Path("data.emn"))


def test_records_are_those_sealed(place: Path) -> None:
    found = manifest.records(Path("data.emn"))
    assert [record["path"] for record in found] == [f"{c}/{i}.png" for c in "ab" for i in range(4)]
    assert found[0]["source"] == "a/0.png" and found[0]["linf"] == 3 and found[0]["label"] == "a"
    place = Path("data.emn") / manifest.RECORDS
    place.write_bytes(place.read_bytes().replace(b'"linf":3', b'"linf":2'))
    with pytest.raises(IntegrityError):
        manifest.records(Path("data.emn"))


def test_the_line_of_ancestors_ends_at_the_owner_s_folder(place: Path) -> None:
    child(Path("data.emn"), Path("data.emn.jcdp"))
    line = manifest.ancestors(Path("data.emn.jcdp"))
    assert [(role, str(path)) for role, path, _ in line] == [("protected", "data.emn"), ("source", "data/train")]
    assert [m.stage if m else None for _, _, m in line] == ["protect", None]
    assert manifest.ancestors(Path("data/train")) == []


def test_a_line_with_a_gap_ends_there(place: Path) -> None:
    child(Path("data.emn"), Path("data.emn.jcdp"))
    shutil.rmtree("data.emn")
    line = manifest.ancestors(Path("data.emn.jcdp"))
    assert [(role, str(path), m) for role, path, m in line] == [("protected", "data.emn", None)]
    assert manifest.clean_of(Path("data.emn.jcdp")) is None


def test_clean_test_and_val_of_every_generation(place: Path) -> None:
    child(Path("data.emn"), Path("data.emn.jcdp"))
    child(Path("data/train"), Path("data.jcdp"), role="source")
    for folder in ("data.emn", "data.emn.jcdp"):
        assert manifest.clean_of(Path(folder)) == Path("data/train")
        assert manifest.test_of(Path(folder)) == Path("data/test")
        assert manifest.val_of(Path(folder)) == Path("data/val")
    assert manifest.clean_of(Path("data")) is None
    for folder in ("data", "data/train"):
        assert manifest.test_of(Path(folder)) is not None
        assert manifest.test_of(Path(folder)).resolve() == Path("data/test").resolve()


def test_a_set_protected_elsewhere_names_its_clean_originals(place: Path) -> None:
    image_tree(Path("foreign"))
    clean = manifest.dependency("clean", Path("data/train"), output=Path("imported"), tree="0" * 64)
    work = shards.Work.open(Path("imported"), {})
    work.commit("0", {"a/1.png": saved(noise(1))}, [])
    source = manifest.dependency("source", Path("foreign"), output=Path("imported"), tree="1" * 64)
    work.seal(manifest.statement(stage="import", method="foreign", dependencies=[source, clean]))
    assert manifest.clean_of(Path("imported")) == Path("data/train")


def test_parents_are_found_after_the_whole_place_has_moved(
    place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    child(Path("data.emn"), Path("data.emn.jcdp"))
    new = tmp_path_factory.mktemp("moved") / "all of it"
    shutil.copytree(place, new)
    shutil.rmtree(place / "data")
    assert manifest.clean_of(new / "data.emn.jcdp").resolve() == (new / "data/train").resolve()
    assert manifest.verify(new / "data.emn.jcdp", chain=True).problems == []


def test_odd_names_in_links_to_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = image_tree(Path("my photos #1 [100%]?/train"))
    protect(source, Path("out dir"))
    assert manifest.clean_of(Path("out dir")) == source
    assert "%20" in manifest.read(Path("out dir")).dependencies[0].uri


def test_a_prior_and_its_manifest_beside_it(place: Path) -> None:
    image_tree(Path("raw/any"))
    path = prior(Path("raw"), Path("prior.ckpt"))
    assert sorted(p.name for p in place.glob("prior*")) == ["prior.ckpt", "prior.ckpt.ue-audit.json"]
    m = manifest.read(path)
    assert m.stage == "train-prior" and m.subject == "prior.ckpt" and m.sha256 == manifest.file_sha256(path)
    assert manifest.locate(path, m.dependencies[0]) == Path("raw")
    named = manifest.dependency("prior", path, output=Path("data.emn"))
    assert named.digest == {"sha256": m.sha256} and named.uri == "../prior.ckpt"


# -- the newest --------------------------------------------------------------------------------------------


def test_the_newest_is_the_one_that_finished_last(place: Path) -> None:
    time.sleep(0.01)
    protect(Path("data/train"), Path("data.a"), levels=1)
    assert manifest.newest("protect") == Path("data.a")
    time.sleep(0.01)
    protect(Path("data/train"), Path("data.emn"), fresh=True)
    assert manifest.newest("protect") == Path("data.emn")


def test_the_newest_skips_other_stages_and_unfinished_work(place: Path) -> None:
    child(Path("data.emn"), Path("data.emn.jcdp"))
    shards.Work.open(Path("data.lsp"), {}).commit("0", {}, [])
    assert manifest.newest("protect") == Path("data.emn")
    assert manifest.newest("purify") == Path("data.emn.jcdp")
    image_tree(Path("raw/any"))
    prior(Path("raw"), Path("prior.ckpt"))
    assert manifest.newest("train-prior") == Path("prior.ckpt")


def test_none_or_different_lineages_are_usage_errors(place: Path) -> None:
    with pytest.raises(UsageError, match="no complete output of evaluate"):
        manifest.newest("evaluate")
    image_tree(Path("cats"), ("x", "y"), each=1)
    protect(Path("cats"), Path("cats.emn"))
    with pytest.raises(UsageError, match="2 different sets") as caught:
        manifest.newest("protect")
    assert [detail.split(" ")[0] for detail in caught.value.details] == ["cats.emn", "data.emn"]


def test_lineage_goes_back_through_generations(place: Path) -> None:
    child(Path("data.emn"), Path("data.emn.jcdp"))
    time.sleep(0.01)
    child(Path("data/train"), Path("data.ddpm"), role="source")
    assert manifest.newest("purify") == Path("data.ddpm")


def test_command_of_a_prior_s_settings() -> None:
    m = manifest.statement(stage="train-prior", method="ddpm", settings=TrainPriorSettings(raw=Path("raw")))
    assert m.command.startswith("ue-audit train-prior raw")


def test_reading_changes_nothing(place: Path) -> None:
    before = contents(Path("data.emn"))
    manifest.read(Path("data.emn")), manifest.records(Path("data.emn")), manifest.verify(Path("data.emn"), chain=True)
    assert contents(Path("data.emn")) == before

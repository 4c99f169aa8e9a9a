"""export: the images byte for byte, classes by number, a card that gives nothing away, refusals, resume."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from hostile import STRINGS
from kill import changes, killed_runs
from stand_ins import owner
from test_shards import same_but_for_run_details
from trees import child, contents, image_tree, protect

from ue_audit import cards, cli, export, manifest
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.tool_settings import ExportSettings

SET = Path("data.brighter")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    owner(Path("data"))
    protect(Path("data/train"), SET)
    return tmp_path


def made(form: str = "hf", source: Path = SET) -> Path:
    return export.run(ExportSettings(source=source, format=form))


def table(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.read_text())))


def header(out: Path) -> dict:
    return yaml.safe_load((out / "README.md").read_text().split("---\n")[1])


# -- Hugging Face ----------------------------------------------------------------------------------------------


def test_images_are_byte_for_byte_and_classes_have_their_numbers_and_names() -> None:
    out = made()
    rows = table(out / "train/metadata.csv")
    names = header(out)["configs"][0]["features"][1]["dtype"]["class_label"]["names"]
    assert len(rows) == 12 and names == {"0": "class0", "1": "class1", "2": "class2"}
    for row in rows:
        assert (out / "train" / row["file_name"]).read_bytes() == (SET / row["file_name"]).read_bytes()
        assert names[row["label"]] == row["file_name"].split("/")[0]
        assert row["sha256"] == manifest.file_sha256(SET / row["file_name"])
    assert manifest.verify(out, chain=True).problems == []


def test_every_column_has_a_declared_type_in_the_order_of_the_table() -> None:
    out = made()
    declared = [feature["name"] for feature in header(out)["configs"][0]["features"]]
    assert declared == ["image", *list(table(out / "train/metadata.csv")[0])[1:]]


def test_classes_that_look_like_something_else_are_numbers_in_the_table() -> None:
    """A reader takes 007 for 7, None for nothing and 2024-05-01 for a time."""
    image_tree(Path("odd/train"), ("007", "2024-05-01", "None"))
    out = made(source=protect(Path("odd/train"), Path("odd.brighter")))
    assert {row["label"] for row in table(out / "train/metadata.csv")} == {"0", "1", "2"}
    names = header(out)["configs"][0]["features"][1]["dtype"]["class_label"]["names"]
    assert list(names.values()) == ["007", "2024-05-01", "None"]


def test_the_card_says_method_budget_and_digest_of_every_step() -> None:
    out = made(source=child(SET, Path("data.darker")))
    text = (out / "README.md").read_text()
    assert "protect brighter, linf at most 8/255" in text.replace("&#58;", ":") and "purify darker" in text
    assert all(manifest.read(path).tree in text for path in (SET, Path("data.darker")))
    assert text.index("protect brighter") < text.index("2. purify darker")


# -- Croissant -------------------------------------------------------------------------------------------------


def test_croissant_names_the_table_by_digest_and_every_field_exists() -> None:
    out = made("croissant")
    found = json.loads((out / "croissant.json").read_text())
    file, images = found["distribution"]
    assert file["sha256"] == manifest.file_sha256(out / file["contentUrl"]) and found["conformsTo"].endswith("/1.0")
    assert sorted(p.relative_to(out).as_posix() for p in out.glob(images["includes"])) == sorted(
        row["file_name"] for row in table(out / "metadata.csv")
    )
    nodes = [file, images, *found["recordSet"], *(f for r in found["recordSet"] for f in r["field"])]
    ids = [node["@id"] for node in nodes]
    assert len(ids) == len(set(ids)), "one name for two things cannot be resolved"
    used = [f["source"] for r in found["recordSet"] for f in r["field"] if "source" in f]
    assert {ref["@id"] for s in used for key, ref in s.items() if key != "extract"} <= set(ids)
    columns = {s["extract"]["column"] for s in used if "column" in s["extract"]}
    assert columns == set(table(out / "metadata.csv")[0])
    [classes] = [r["data"] for r in found["recordSet"] if r["@id"] == "classes"]
    assert classes[2] == {"classes/label": 2, "classes/name": "class2"}
    assert found["prov:wasDerivedFrom"][-1]["sha256"] == manifest.read(SET).tree


# -- what it must not say --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["hf", "croissant"])
def test_no_place_user_or_host_is_in_any_byte(form: str, here: Path) -> None:
    """Also where the output is far from the set, so that a relative path would climb and come down by names."""
    away = here / "elsewhere/deep"
    out = export.run(ExportSettings(source=here / SET, format=form, output=away / "out"))
    text = b"".join(data for path, data in contents(out).items() if not path.endswith(".png"))
    for word in (str(here), here.name, os.uname().nodename, "elsewhere", "data/train"):
        assert word.encode() not in text, word


@pytest.mark.parametrize("name", [name for name in STRINGS if "/" not in name and name.isprintable()])
def test_hostile_class_names_stay_text(name: str) -> None:
    step = cards.Step("protect", name, None, {name: name}, "0" * 64, {})
    card = cards.Card(name, 1, (name, "b"), (step,), ())
    text = cards.readme(card).decode()
    found, _, body = text.removeprefix("---\n").partition("---\n\n")
    assert yaml.safe_load(found)["configs"][0]["features"][1]["dtype"]["class_label"]["names"]["0"] == name
    assert "<script" not in body.replace("`", "\0").split("\0")[0] and "](" not in body
    assert json.loads(cards.croissant(card, b""))["name"] == name


# -- refusals, resume ------------------------------------------------------------------------------------------


def test_clean_images_and_other_outputs_are_no_sets_to_export() -> None:
    with pytest.raises(UsageError, match="expected an output of ue-audit"):
        made(source=Path("data/train"))
    with pytest.raises(UsageError, match="found the output of export"):
        made(source=made())


def test_an_image_that_was_changed_is_not_exported() -> None:
    (SET / "class0/000.png").write_bytes((SET / "class0/001.png").read_bytes())
    with pytest.raises(IntegrityError, match="class0/000.png is not the image that was sealed"):
        made()


@pytest.mark.skipif(os.name != "posix", reason="forks and signals")
def test_killed_anywhere_and_run_again_is_the_unbroken_run(monkeypatch: pytest.MonkeyPatch, no_sync: None) -> None:
    monkeypatch.setattr(export, "SHARD_FILES", 5)
    out = Path("data.brighter.hf")
    count = len(changes(made))
    unbroken = contents(out)
    for k, was_killed in killed_runs(made, range(1, count + 1, 6), [out]):
        made()
        assert was_killed and same_but_for_run_details(contents(out), unbroken), f"killed at change {k} of {count}"
    shutil.rmtree(out)


def test_the_command_line_says_where_it_lies(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "--dry-run", str(SET)]) == 0 and not Path("data.brighter.hf").exists()
    assert cli.main(["export", "-q", "--format", "croissant", str(SET)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "data.brighter.croissant"
    assert cli.main(["export", "--format", "zip", str(SET)]) == 2

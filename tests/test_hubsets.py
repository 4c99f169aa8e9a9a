"""Hugging Face's image folders and parquet files as sources of a split."""

import json
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from stand_ins import photos
from trees import noise, protect, saved

from ue_audit import cli, export, manifest, split
from ue_audit.errors import InputRefused, ResourceError, UsageError
from ue_audit.parquetsets import part_of
from ue_audit.tool_settings import ExportSettings, SplitSettings

ROOT, OUT = Path("set"), Path("out")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def made(**columns: str) -> list[dict]:
    out = split.run(SplitSettings(source=ROOT, form="hf", output=OUT, layers={"flag": columns}))
    assert manifest.verify(out, chain=True).problems == []
    return manifest.records(out)


# -- image folders ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["", "data"])
def test_parts_by_the_words_of_the_hub(base: str) -> None:
    for seed, (part, each) in enumerate({"train": 20, "validation": 3, "test": 4}.items()):
        photos(ROOT / base / part, each=each, seed=seed)
    (ROOT / "README.md").write_text("---\n---\n")
    (ROOT / ".gitattributes").write_text("x")
    assert Counter(record["part"] for record in made()) == {"train": 48, "val": 9, "test": 12, "raw": 12}


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_metadata_gives_the_classes_of_flat_images(ending: str) -> None:
    (ROOT / "train/images").mkdir(parents=True)
    rows = [{"file_name": f"images/{n}.png", "label": ["cat", "dog"][n % 2], "text": "x, y"} for n in range(40)]
    for n in range(40):
        (ROOT / "train/images" / f"{n}.png").write_bytes(saved(noise(n)))
    lines = {
        "csv": ["file_name,label,text", *(f'{r["file_name"]},{r["label"]},"x, y"' for r in rows)],
        "jsonl": [json.dumps(row) for row in rows],
    }
    (ROOT / f"train/metadata.{ending}").write_text("\n".join(lines[ending]) + "\n")
    records = made()
    assert {r["label"]: Counter(x["part"] for x in records if x["label"] == r["label"]) for r in records} == {
        "cat": {"train": 13, "test": 2, "raw": 4, "val": 1}, "dog": {"train": 13, "test": 2, "raw": 4, "val": 1}
    }  # fmt: skip
    assert all(int(Path(r["source"]).stem) % 2 == ["cat", "dog"].index(r["label"]) for r in records)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_metadata_of_another_system(ending: str) -> None:
    """Lines end as on Windows, behind a byte order mark; names are taken apart on disk, as macOS does."""
    (ROOT / "train").mkdir(parents=True)
    names = [f"\u00fc{n}.png" for n in range(40)]
    for n, name in enumerate(names):
        (ROOT / "train" / unicodedata.normalize("NFD", name)).write_bytes(saved(noise(n)))
    rows = [{"file_name": name, "label": ["cat", "dog?"][n % 2]} for n, name in enumerate(names)]
    lines = {
        "csv": ["file_name,label", *(f"{r['file_name']},{r['label']}" for r in rows)],
        "jsonl": [json.dumps(row, ensure_ascii=False) for row in rows],
    }
    (ROOT / f"train/metadata.{ending}").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines[ending]).encode() + b"\r\n")
    assert Counter(record["label"] for record in made()) == {"cat": 20, "dog_": 20}


def test_an_image_without_a_line_is_refused_and_a_line_without_a_name_too() -> None:
    photos(ROOT / "train", each=10)
    lines = [f"class{k}/{n:03d}.png,{k % 2}" for k in range(3) for n in range(10)]
    (ROOT / "train/metadata.csv").write_text("\n".join(["file_name,label", *lines[1:]]))
    with pytest.raises(InputRefused) as caught:
        made()
    assert caught.value.details == ("train/class0/000.png: no-metadata (no line of the metadata names it)",)
    (ROOT / "train/metadata.csv").write_text("name,label\na,b\n")
    with pytest.raises(UsageError, match="`file_name` in every line"):
        made()


def test_what_was_exported_comes_back_with_its_classes() -> None:
    """The table has numbers, which stand one to one for folders; the folders' names are the classes."""
    photos(Path("data/train"), each=20)
    export.run(ExportSettings(source=protect(Path("data/train"), Path("ours")), output=ROOT))
    for name in ("ue-audit.json", "ue-audit.sums", "ue-audit.records.jsonl"):
        (ROOT / name).unlink()  # as another's data set
    assert {record["label"] for record in made()} == {"class0", "class1", "class2"}


# -- parquet ---------------------------------------------------------------------------------------------------


def written(file: Path, images: list[bytes], labels: list[object], info: dict | None = None, **names: str) -> None:
    """A parquet file as `datasets` writes them: an image is {"bytes", "path"}, types are noted in the schema."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    found = pa.table({names.get("image", "image"): [{"bytes": b, "path": None} for b in images]})
    for name in names.get("label", "label").split():
        found = found.append_column(name, [labels])
    if info is not None:
        found = found.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": info}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(found, file, row_group_size=7)


NAMES = ["airplane", "N/A"]
INFO = {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": NAMES}}


def test_parquet_files_keep_bytes_parts_and_class_names() -> None:
    parts = {"train": 40, "validation": 4, "test": 10}
    coded = {
        part: [saved(noise(1000 * n + k), "JPEG" if k % 2 else "PNG") for k in range(c)]
        for n, (part, c) in enumerate(parts.items())
    }
    for part, images in coded.items():
        labels = [n % 4 // 2 for n in range(len(images))]
        written(ROOT / f"data/{part}-00000-of-00001.parquet", images, labels, INFO, image="img")
    records = made()
    assert Counter(r["part"] for r in records) == {"train": 32, "raw": 8, "val": 4, "test": 10}
    for record in records:
        part = Path(record["source"]).name.split("-")[0]
        row = int(record["source"].rstrip("]").split("[")[1])
        assert (OUT / record["path"]).read_bytes() == coded[part][row]
        assert (
            record["path"].endswith(".jpg" if row % 2 else ".png")
            and record["label"] == ["airplane", "N_A"][row % 4 // 2]
        )


def test_columns_are_named_where_several_could_be_meant() -> None:
    images = [saved(noise(n)) for n in range(30)]
    info = {name: {"_type": "ClassLabel", "names": ["x", "y"]} for name in ("fine", "coarse")}
    written(ROOT / "train.parquet", images, [0, 1] * 15, {**info, "image": {"_type": "Image"}}, label="fine coarse")
    with pytest.raises(UsageError, match="fine, coarse") as caught:
        made()
    assert caught.value.hint == "--set label=fine"
    assert {record["label"] for record in made(label="coarse")} == {"x", "y"}
    with pytest.raises(UsageError, match="no column 'rough'"):
        made(label="rough")


def test_without_notes_the_usual_names_are_taken_and_values_are_classes() -> None:
    written(ROOT / "train.parquet", [saved(noise(n)) for n in range(30)], ["cat", "dog"] * 15)
    assert {record["label"] for record in made()} == {"cat", "dog"}


def test_numbers_beyond_the_classes_and_rows_without_an_image() -> None:
    written(ROOT / "train.parquet", [saved(noise(n)) for n in range(30)], [0, 2] * 15, INFO, image="img")
    with pytest.raises(UsageError, match="numbers beyond its 2 classes"):
        made()
    written(ROOT / "train.parquet", [None, b"", *(saved(noise(n)) for n in range(28))], [0, 1] * 15)
    with pytest.raises(InputRefused) as caught:
        made()
    assert [line.split(" ")[1] for line in caught.value.details] == ["missing", "empty"]


def test_several_sets_in_one_folder_and_no_parquet_at_all() -> None:
    for name in ("a", "b"):
        written(ROOT / name / "train.parquet", [saved(noise(1))], [0])
    with pytest.raises(UsageError, match="several data sets"):
        made()
    (ROOT / "b/train.parquet").unlink()
    (ROOT / "a/train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputRefused, match="expected a parquet file"):
        made()


def test_without_pyarrow_the_command_to_install_it_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ROOT.mkdir()
    (ROOT / "train.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ResourceError) as caught:
        made()
    assert "pip install 'ue-audit[hf]'" in caught.value.hint
    assert cli.main(["split", "--from", "hf", str(ROOT)]) == 5 and "pip install" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("data/train-00000-of-00005.parquet", None), ("cifar10/test/0000.parquet", "test"), ("a/dev.parquet", "val"),
        ("plain_text/validation-0.parquet", "val"), ("unsupervised-0.parquet", "raw"), ("contest.parquet", None),
    ],
)  # fmt: skip
def test_words_in_paths(path: str, part: str | None) -> None:
    assert part_of(Path(path)) == part


def test_a_folder_of_parquet_files_needs_the_word(capsys: pytest.CaptureFixture[str]) -> None:
    ROOT.mkdir()
    (ROOT / "train.parquet").write_bytes(b"PAR1")
    assert cli.main(["split", str(ROOT)]) == 2 and "hf for parquet" in capsys.readouterr().err

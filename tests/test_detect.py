"""detect: the verdict on figures, on folders, against clean originals, and what the command shows."""

from pathlib import Path

import numpy as np
import pytest
from fake_stages import only_document
from test_detection import labels, maps, pictures, planted, waves

from ue_audit import cli, detect, imagefolder
from ue_audit.detect import FEW, MANY, bounds_of, judge
from ue_audit.detection import TREATMENTS, Found
from ue_audit.errors import InputRefused, UsageError
from ue_audit.rendering import detected
from ue_audit.tool_settings import DetectSettings

CLEAN = {name: bound.clean for name, bound in MANY.items()}
KEPT = {"pixels": 1.0, "spectrum": 1.0}
GONE = {"pixels": MANY["pixels"].clean, "spectrum": MANY["spectrum"].clean}


def figures(*beyond: str, kept: tuple[str, ...] = ()) -> Found:
    """Those of a clean set, but for some probes, and for what a shortcut outlives."""
    found = CLEAN | {name: MANY[name].bound + 0.01 for name in beyond}
    return Found(found, {}, {name: KEPT if name in kept else GONE for name in TREATMENTS if name != "nothing"})


def folder(root: Path, pixels: np.ndarray, numbers: np.ndarray) -> Path:
    for row, number in enumerate(numbers):
        (root / f"class{number}").mkdir(parents=True, exist_ok=True)
        (root / f"class{number}" / f"{row:03d}.png").write_bytes(imagefolder.encode_png(pixels[row]))
    return root


# -- the verdict ---------------------------------------------------------------------------------------------


def test_bounds_lie_beyond_what_clean_sets_show() -> None:
    assert list(FEW) == list(MANY) == list(detected.TITLES)
    assert all(bound.clean < bound.bound < 1 for bounds in (FEW, MANY) for bound in bounds.values())


def test_few_images_or_two_classes_have_wider_bounds() -> None:
    assert bounds_of(2, 5000) is bounds_of(10, 999) is FEW and bounds_of(3, 1000) is MANY
    assert all(FEW[name].bound >= MANY[name].bound for name in FEW)


def test_one_probe_is_likely_and_two_are_a_yes() -> None:
    assert judge(figures(), MANY) == detect.Verdict("no evidence", (), None, False, ())
    assert judge(figures("fragile"), MANY).protected == "likely"
    assert judge(figures("fragile", "spectrum"), MANY).protected == "yes"


@pytest.mark.parametrize(
    ("beyond", "kept", "kind", "first"),
    [
        (("spectrum", "fragile"), ("grayscale", "median"), "sample-wise", ("jpeg",)),
        (("fragile", "colour"), ("median",), "sample-wise", ("grayscale", "jpeg")),
        (("pixels", "mean_high"), ("grayscale", "median"), "class-wise high-frequency", ("jpeg",)),
        (("pixels", "mean_mid"), ("jpeg", "grayscale", "median"), "class-wise low-frequency", ()),
        (("pixels", "mean_high", "one_pixel"), ("grayscale",), "one pixel", ("median", "jpeg")),
    ],
)
def test_the_kind_and_what_to_try(
    beyond: tuple[str, ...], kept: tuple[str, ...], kind: str, first: tuple[str, ...]
) -> None:
    verdict = judge(figures(*beyond, kept=kept), MANY)
    assert (verdict.kind, verdict.suggestions) == (kind, first)
    assert verdict.coloured == ("colour" in beyond)


# -- folders -------------------------------------------------------------------------------------------------


def test_a_protected_folder_is_found_and_a_clean_one_is_not(tmp_path: Path) -> None:
    numbers = labels(100, 2)
    x = pictures(numbers)
    clean = detect.run(DetectSettings(source=folder(tmp_path / "clean", x, numbers), device="cpu"))
    assert (clean["protected"], clean["kind"], clean["suggestions"]) == ("no evidence", None, [])
    found = detect.run(DetectSettings(source=folder(tmp_path / "ue", planted(x, maps(numbers)), numbers), device="cpu"))
    assert (found["protected"], found["kind"]) == ("yes", "class-wise high-frequency")
    assert (found["images"], found["classes"], found["size"]) == (200, 2, 16)
    assert [row["probe"] for row in found["probes"]] == list(FEW)
    assert "class-wise high-frequency" in detected.lines(found)


@pytest.mark.parametrize(("plant", "kind"), [(maps, "class-wise high-frequency"), (waves, "sample-wise")])
def test_against_the_originals(plant, kind, tmp_path: Path) -> None:
    numbers = labels(60, 2)
    x = pictures(numbers)
    source = folder(tmp_path / "ue", planted(x, plant(numbers)), numbers)
    clean = folder(tmp_path / "clean", x, numbers)
    change = detect.run(DetectSettings(source=source, clean=clean, device="cpu"))["change"]
    assert (change["kind"], change["images_changed"], change["levels"]) == (kind, 1, 8)
    assert change["low"] + change["mid"] + change["high"] == pytest.approx(1, abs=1e-3)
    assert (change["class_means"] > 0.8) == (plant is maps)
    assert detect.run(DetectSettings(source=clean, clean=clean, device="cpu"))["change"]["kind"] is None


def test_grey_changes_are_grey(tmp_path: Path) -> None:
    """A third of a change in one channel alone is the same in all three: 3 (d/3)² of d²."""
    delta = np.zeros((2, 4, 4, 3), np.int16)
    delta[0] = 5
    assert detect._grey(delta[:1]) == 1
    delta[1, ..., 2] = 5
    assert detect._grey(delta[1:]) == pytest.approx(1 / 3)


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    numbers = labels(30, 2)
    few = folder(tmp_path / "few", pictures(numbers), numbers)
    with pytest.raises(UsageError, match="found 60 images in 2 classes, the smallest of 30"):
        detect.run(DetectSettings(source=few))
    numbers = labels(60, 2)
    many = folder(tmp_path / "many", pictures(numbers), numbers)
    with pytest.raises(InputRefused, match="60 of 120 images have no original"):
        detect.run(DetectSettings(source=many, clean=few, device="cpu"))
    with pytest.raises(UsageError, match="found 120 images in 1 classes"):
        detect.run(DetectSettings(source=folder(tmp_path / "one", pictures(numbers), 0 * numbers)))


# -- the command ---------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = labels(60, 2)
    source = folder(tmp_path / "ue", planted(pictures(numbers), maps(numbers)), numbers)
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["detect", str(source), "--device", "cpu", "--json"]) == 0
    document = only_document(capsys.readouterr().out)
    assert (document["command"], document["protected"]) == ("detect", "yes")
    assert cli.main(["detect", str(source), "--device", "cpu", "-q"]) == 0
    assert capsys.readouterr().out == "yes\n"
    assert cli.main(["detect", str(source), "--device", "cpu", "--limit", "100", "--clean", str(source)]) == 0
    out = capsys.readouterr().out
    assert "protected, class-wise high-frequency" in out and "100 images of 16 px in 2 classes" in out
    assert "nothing was changed" in out
    assert sorted(tmp_path.rglob("*")) == before


def test_names_are_shown_and_not_obeyed() -> None:
    found = {"folder": "[/nope]\x1b[31m", "protected": "likely", "kind": "sample-wise", "coloured": True, "images": 9}
    found |= {"classes": 2, "size": 8, "probes": [], "after": {}, "warnings": ["[red]x"], "suggestions": []}
    shown = detected.lines(found)
    assert r"\[/nope]\x1b" in shown and r"\[red]x" in shown and "likely protected[/], coloured, sample-wise" in shown

"""Where outputs land by default, shares and devices, and what the settings refuse."""

from pathlib import Path
from typing import Any

import pytest

from ue_audit.config import resolve
from ue_audit.errors import UsageError
from ue_audit.quantities import parse_duration, parse_share
from ue_audit.settings import (
    EvaluateSettings,
    ProtectSettings,
    PurifySettings,
    ReportSettings,
    TrainPriorSettings,
    base_name,
)
from ue_audit.spelling import MODELS, pasted


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200.0), ("45 min", 2700.0), ("1h 30min", 5400.0), ("1.5h", 5400.0), ("90m", 5400.0), ("30s", 30.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert resolve(EvaluateSettings, {"flag": {"folders": ["x"], "budget": text}}, "")[0].budget == seconds


@pytest.mark.parametrize("text", ["soon", "2 hours", "-1", "h", "2h then"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError):
        resolve(EvaluateSettings, {"flag": {"folders": ["x"], "budget": text}}, "")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("data", "data"),
        ("data/", "data"),
        ("/x/data", "data"),
        ("data/train", "data"),
        ("/x/data/raw/", "data"),
        ("data.emn", "data.emn"),
        ("raw", "raw"),
        ("train", "train"),
        ("/x/training", "training"),
    ],
)
def test_base_name(folder: str, name: str) -> None:
    assert base_name(Path(folder)) == name


def test_base_name_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pets" / "train").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "pets" / "train")
    assert base_name(Path()) == "train"
    assert base_name(Path("..")) == "pets"
    assert base_name(Path("../train")) == "pets"


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        (ProtectSettings(source="data/"), "data.emn"),
        (ProtectSettings(source="data/train", method="emn-paper"), "data.emn-paper"),
        (TrainPriorSettings(raw="raw"), "raw.prior.ckpt"),
        (PurifySettings(source="data.emn"), "data.emn.jcdp"),
        (PurifySettings(source="/elsewhere/data.emn", method="ddpm"), "data.emn.ddpm"),
        (EvaluateSettings(folders=["data/train", "data.emn", "data.emn.jcdp"]), "data.eval"),
        (ReportSettings(evaluation="data.eval"), "data.report"),
        (ProtectSettings(source="data", output="there"), "there"),
    ],
)
def test_places(settings: Any, place: str) -> None:
    assert settings.place() == Path(place), "in the working directory, wherever the input lies"


@pytest.mark.parametrize(("value", "share"), [("1%", 0.01), (" 50 % ", 0.5), ("0.2", 0.2), (0.2, 0.2), ("0", 0.0)])
def test_shares(value: object, share: float) -> None:
    assert ProtectSettings(source="x", max_bad=value).max_bad == share


@pytest.mark.parametrize("value", ["x%", "%", "101%", "-1", "2", "nan"])
def test_what_is_no_share(value: str) -> None:
    with pytest.raises(UsageError):
        resolve(ProtectSettings, {"flag": {"source": "x", "max_bad": value}}, "protect")


def test_a_number_is_passed_on() -> None:
    assert parse_share(3) == 3


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11", "mps"])
def test_devices(device: str) -> None:
    assert ProtectSettings(source="x", device=device).device == device


@pytest.mark.parametrize(
    "fields",
    [
        {"device": "gpu"},
        {"device": "cuda:"},
        {"device": "cpu\n"},
        {"seed": -1},
        {"seed": "x"},
        {"limit": 0},
        {"size": 4},
        {"on_bad": "ignore"},
        {"nonsense": 1},
    ],
)
def test_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(ProtectSettings, {"flag": {"source": "x", **fields}}, "protect")
    [(key, value)] = fields.items()
    [detail] = caught.value.details
    assert key in detail


@pytest.mark.parametrize("model", [model for stage, model in MODELS.items() if stage != "bench"])
def test_a_missing_folder_is_named(model: Any) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(model, {}, "x")
    assert any("needed, and not given" in detail for detail in caught.value.details)


def test_a_line_to_paste_quotes_what_must_be() -> None:
    assert pasted("ue-audit", "report", Path("my photos.eval")) == "ue-audit report 'my photos.eval'"

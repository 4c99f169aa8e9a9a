"""import-prior: a sealed prior that says where it comes from and that its training data is unknown."""

import json
from pathlib import Path

import hostile_weights as hostile
import pytest
import torch
from safetensors.torch import load_file, save_file
from stand_ins import owner
from their_networks import Ddim, fill

from ue_audit import cli, evidence, import_prior, manifest, purify, train_prior
from ue_audit.diffusion.prior import Prior, PriorConfig, load_prior
from ue_audit.diffusion.unet import Config, UNet
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.settings import ImportPriorSettings, PurifySettings, TrainPriorSettings
from ue_audit.spelling import made_by

SHAPE = {"multipliers": (1, 2), "blocks": 1, "attention": (0,)}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def file(here):
    torch.save(fill(Ddim(**SHAPE)).state_dict(), here / "model-790000.ckpt")
    return here / "model-790000.ckpt"


def settings(file, **more):
    return ImportPriorSettings(**{"source": file, "device": "cpu"} | more)


def test_the_prior_is_sealed_with_its_provenance(file):
    path = import_prior.run(settings(file))
    assert path == Path("model-790000.prior.ckpt")
    prior, found = load_prior(path), manifest.read(path)
    digest = manifest.file_sha256(file)
    said = {"imported": True, "format": "ddim", "files": {"weights": digest}, "training_data": "unknown"}
    assert prior.provenance == said and prior.t_max == 1000 and prior.figures == {}
    assert found.stage == "train-prior" and found.method == "ddim" and said.items() <= found.notes.items()
    assert "images" not in found.counts and "raw_pixels" not in found.notes
    assert [(d.name, d.uri, d.digest) for d in found.dependencies] == [
        ("imported weights", file.name, {"sha256": digest})
    ]
    assert any("not known" in warning for warning in found.warnings)
    assert made_by(found.stage, found.settings) == "ue-audit import-prior --device cpu model-790000.ckpt"
    assert manifest.verify(path, chain=True).problems == []
    file.write_bytes(b"another")
    assert manifest.verify(path, chain=True).problems


def test_again_is_up_to_date_and_other_settings_are_refused(file):
    first = import_prior.run(settings(file)).read_bytes()
    assert import_prior.run(settings(file)).read_bytes() == first
    other = settings(file, layers={"flag": {"T": 400}})
    with pytest.raises(UsageError) as refused:
        import_prior.run(other)
    assert any("T" in line for line in refused.value.details)
    assert import_prior.run(other.model_copy(update={"fresh": True})).read_bytes() != first


def test_purify_takes_it_as_any_other(file):
    owner(file.parent / "data", each=2, size=16)
    prior = import_prior.run(settings(file))
    known = {"prior": prior, "device": "cpu", "output": Path("out")}
    out = purify.run(PurifySettings(source=Path("data"), layers={"flag": {"guide": "prior-features"}}, **known))
    parent = manifest.read(out).dependency("prior")
    assert parent is not None and parent.digest == {"sha256": manifest.file_sha256(prior)}
    said = evidence.prior_of(out)
    assert said is not None and (said["training_data"], said["images"], said["figures"]) == ("unknown", None, None)
    assert said["start"] == "ddim weights of unknown training data"


def test_fine_tuning_inherits_that_its_training_data_is_unknown(file):
    owner(file.parent / "data", each=2, size=16)
    start = import_prior.run(settings(file))
    layers = {"flag": {"steps": 2, "batch": 2, "t_max": 128}}
    given = {"raw": Path("data/raw"), "preset": "tiny", "device": "cpu", "output": Path("tuned.ckpt"), "layers": layers}
    tuned = train_prior.run(TrainPriorSettings(start=start, **given))
    assert manifest.read(tuned).notes["training_data"] == load_prior(tuned).provenance["training_data"] == "unknown"
    alone = train_prior.run(TrainPriorSettings(**given | {"output": Path("alone.ckpt")}))
    assert "training_data" not in manifest.read(alone).notes


def test_a_foreign_file_as_prior_is_told_how_to_bring_it_in(file, capsys):
    owner(file.parent / "data", each=2, size=16)
    save_file(load_state(file), "w.safetensors")
    Path("folder").mkdir()
    for name in (file.name, "w.safetensors", "folder"):
        assert cli.main(["purify", "--prior", name, "-o", "out", "data"]) == 4
        assert f"ue-audit import-prior {name}" in " ".join(capsys.readouterr().err.split()), name
    assert not Path("out").exists()


def load_state(file):
    return torch.load(file, weights_only=True)


def test_it_is_tried_on_photographs(monkeypatch):
    """A network that answers 0 leaves the noise, but for what clamping takes; the true noise leaves nothing."""
    prior = Prior(UNet(Config(channels=8, multipliers=(1,), attention=(), groups=4)), PriorConfig(t_max=128), 16)
    assert import_prior.photographs(32).shape == (16, 3, 32, 32)
    assert import_prior.photographs(256).shape == (1, 3, 256, 256)
    still = import_prior.denoises(prior)
    assert list(still) == ["0.05", "0.08", "0.13"] and all(-3 < gain < 1 for gain in still.values())
    x = 2 * import_prior.photographs(16) - 1

    def knows(x_t, t):
        alpha_bar = prior.schedule.alpha_bar(int(t[0])).float()
        return (x_t - alpha_bar.sqrt() * x) / (1 - alpha_bar).sqrt()

    monkeypatch.setattr(prior, "predict_noise", knows)
    assert min(import_prior.denoises(prior).values()) > 40


def test_a_network_that_does_not_denoise_is_called_so(file):
    found = manifest.read(import_prior.run(settings(file)))
    assert any("photographs" in warning for warning in found.warnings)


def test_a_network_that_answers_nan(here):
    state = fill(Ddim(**SHAPE)).state_dict()
    torch.save({name: w * 1e38 if name == "conv_in.weight" else w for name, w in state.items()}, here / "w")
    with pytest.raises(IntegrityError, match="NaN or infinity"):
        import_prior.run(settings(here / "w"))
    assert not (here / "w.prior.ckpt").exists()


def test_names_of_outputs():
    for place, name in {
        "a/model-790000.ckpt": "model-790000.prior.ckpt",
        "hub/models--google--ddpm-cifar10-32/snapshots/ab12/unet": "ddpm-cifar10-32.prior.ckpt",
        "some.folder": "some.prior.ckpt",
    }.items():
        assert settings(Path(place)).place() == Path(name)


# -- from the command line -----------------------------------------------------------------------------------


def test_options_and_plan(file, capsys):
    assert cli.main(["import-prior", "--dry-run", "--size", "64", "--set", "T=400", file.name]) == 0
    assert "timesteps 1..400" in capsys.readouterr().out and not Path("model-790000.prior.ckpt").exists()
    assert cli.main(["import-prior", "--json", "--device", "cpu", "-o", "x.ckpt", file.name]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["next"] == "ue-audit purify --prior x.ckpt" and document["summary"]["weights"] > 0
    assert cli.main(["import-prior", "--set", "hedas=4", file.name]) == 2


def test_hostile_files_end_with_4_and_leave_nothing(here, capsys):
    state, canary = fill(Ddim(**SHAPE)).state_dict(), here / "canary"
    kinds = hostile.pickles(state, canary) | hostile.archives(state, canary)
    chosen = ["a payload among tensors", "os.system", "a nested archive", "an expanded tensor", "a compressed bomb"]
    for name in chosen:
        (here / "w.ckpt").write_bytes(kinds[name][0])
        assert cli.main(["import-prior", "w.ckpt"]) == 4, name
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[0].startswith("error: ") and "Traceback" not in "".join(lines), name
    assert sorted(p.name for p in here.iterdir()) == ["w.ckpt"]


def test_one_of_ours_is_told_apart(file):
    path = import_prior.run(settings(file))
    with pytest.raises(IntegrityError, match="a network of ue-audit"):
        import_prior.run(settings(path, output=Path("b.ckpt")))
    assert set(load_file(path)) == set(load_prior(path).network.state_dict())

"""A whole audit without any training: folders, manifests and records as the stages write them, numbers made up."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ue_audit import manifest, shards
from ue_audit.imagefolder import encode_png, pixels_sha256
from ue_audit.manifest import Budget, RunDetails

EPOCHS = 12
# (role, folder, countermeasure): mean accuracy at the end
MEANS: dict[tuple[str, str, str | None], float] = {
    ("clean", "train", None): 0.881,
    ("noise", "data.emn (noise of the same norm)", None): 0.868,
    ("protected", "data.emn", None): 0.268,
    ("purified", "data.emn.jcdp", "jcdp"): 0.793,
    ("purified", "data.emn.ddpm", "ddpm"): 0.721,
    ("ceiling", "data.jcdp", "jcdp"): 0.832,
    ("ceiling", "data.ddpm", "ddpm"): 0.801,
}
BUDGET = Budget(norm="linf", limit=8 / 255)
CLASSES = ("airplane", "automobile", "horse", "ship")
Means = Mapping[tuple[str, str, str | None], float]


def records(
    means: Means = MEANS, seeds: int = 3, classes: tuple[str, ...] = CLASSES, learner: str = "supervised"
) -> list[dict[str, Any]]:
    """One record per cell and seed, as evaluate writes them."""
    made = []
    for cell, mean in means.items():
        for seed in range(seeds):
            named = dict(zip(("role", "folder", "countermeasure"), cell, strict=True))
            made.append(_record(named, mean, seed, classes, learner))
    return made


def _record(cell: dict[str, Any], mean: float, seed: int, classes: tuple[str, ...], learner: str) -> dict[str, Any]:
    key = hashlib.sha256(f"{cell} {seed} {learner}".encode()).hexdigest()[:24]
    random = np.random.default_rng(int(key[:12], 16))
    end = float(np.clip(mean + random.normal(0, 0.009), 0, 1))
    early = 0.42 if cell["role"] == "protected" else 0.3  # a poisoned network is better for a moment
    share = 1 - np.exp(-np.arange(1, EPOCHS + 1) / 3)
    tests = [early + (end - early) * float(s) + float(random.normal(0, 0.008)) for s in share[:-1]] + [end]
    curve = []
    for i, (s, a) in enumerate(zip(share, tests, strict=True), 1):
        test, val = (float(np.clip(v, 0, 1)) for v in (a, a + random.normal(0, 0.006)))
        curve.append({"epoch": i, "loss": 1.4 * (1 - float(s)) + 0.02, "val": val, "test": test})
    peak, chosen = max(curve, key=lambda p: p["test"]), max(curve, key=lambda p: p["val"])
    spread = np.linspace(-0.06, 0.06, len(classes))
    return {
        "path": f"trainings/{key}", "key": key, "cell": cell, "learner": learner,
        "recipe": {"net": "small", "epochs": EPOCHS, "lr": 0.1}, "seed": seed, "images": 2000, "epochs": EPOCHS,
        "curve": curve, "last": end, "peak": peak["test"], "peak_epoch": peak["epoch"], "chosen": chosen["test"],
        "chosen_epoch": chosen["epoch"], "val_last": curve[-1]["val"], "val_chosen": chosen["val"],
        "per_class": {name: float(np.clip(end + d, 0, 1)) for name, d in zip(classes, spread, strict=True)},
        "n_test": 2000, "n_val": 1000,
    }  # fmt: skip


def notes(means: Means = MEANS) -> dict[str, Any]:
    """The notes of an evaluation's manifest."""
    figures = {
        "protected": {"linf": 8.0, "psnr": 31.4},
        "purified": {"linf": 71.2, "psnr": 27.0, "psnr_clean": 26.1, "ssim_clean": 0.874, "residual_correlation": 0.21},
        "ceiling": {"linf": 68.4, "psnr": 27.3},
    }
    fidelity = {
        folder: {key: {"mean": v, "p5": 0.9 * v, "p95": 1.1 * v, "n": 2000} for key, v in figures[role].items()}
        for role, folder, _ in means
        if role in figures
    }
    sets = ("clean", "test", "validation", "prior")
    return {
        "fidelity": fidelity,
        "overlap": {f"{a} ∩ {b}": 0 for i, a in enumerate(sets) for b in sets[i + 1 :]},
        "prior": {"name": "raw.prior.ckpt", "images": 4000, "figures": {"0.05": 33.0, "0.08": 29.9}, "start": None},
        "commands": [
            "ue-audit protect data --method emn",
            "ue-audit train-prior raw",
            "ue-audit purify data.emn --prior raw.prior.ckpt",
        ],
        "val_from": "its own folder",
        "partial": False,
    }  # fmt: skip


def picture(row: int) -> np.ndarray:
    """A stand-in for a photograph, (32,32,3) uint8."""
    y, x = np.mgrid[:32, :32]
    return np.stack([(x * 7 + row * 40) % 256, (y * 7) % 256, (x + y) * 4 % 256], -1).astype(np.uint8)


def write(
    place: Path,
    found: list[dict[str, Any]] | None = None,
    noted: dict[str, Any] | None = None,
    classes: tuple[str, ...] = CLASSES,
    picture: Callable[[int], np.ndarray] = picture,
) -> Path:
    """The audit's folders below `place`: data/train, data.emn, data.emn.jcdp, …, raw.prior.ckpt; returns data.eval."""
    clean = place / "data" / "train"
    pictures = {f"{name}/{i:03}.png": picture(len(classes) * i + k) for k, name in enumerate(classes) for i in range(4)}
    for path, pixels in pictures.items():
        (clean / path).parent.mkdir(parents=True, exist_ok=True)
        (clean / path).write_bytes(encode_png(pixels))
    prior = shards.seal_file(
        place / "raw.prior.ckpt", b"weights", manifest.statement(
            stage="train-prior", method="ddpm", counts={"images": 4000}, run=RunDetails(seconds=181.0, device="cpu")
        ),
    )  # fmt: skip
    protected = _folder(place / "data.emn", clean, pictures, 8, "protect", "emn", budget=BUDGET)
    changed = {path: _shift(pixels, 8, path) for path, pixels in pictures.items()}
    for name in ("jcdp", "ddpm"):
        _folder(place / f"data.emn.{name}", protected, changed, 20, "purify", name, prior=prior)
        _folder(place / f"data.{name}", clean, pictures, 20, "purify", name, prior=prior)
    return _evaluation(place, found or records(classes=classes), noted or notes())


def purified_again(place: Path, name: str, method: str, needs: tuple[str, ...] = (), prior: Path | None = None) -> Path:
    """What a further purification makes of the set `name` of a written audit."""
    source, output = place / name, place / f"{name}.{method}"
    pictures = {r["path"]: np.asarray(Image.open(source / r["path"])) for r in manifest.records(source)}
    return _folder(output, source, pictures, 5, "purify", method, prior=prior, needs=needs)


def _shift(pixels: np.ndarray, levels: int, salt: str) -> np.ndarray:
    random = np.random.default_rng(int(hashlib.sha256(f"{salt}{levels}".encode()).hexdigest()[:8], 16))
    blocks = random.integers(-levels, levels + 1, (8, 8, 3)).repeat(4, 0).repeat(4, 1)
    return np.clip(pixels.astype(int) + blocks, 0, 255).astype(np.uint8)


def _folder(
    output: Path, source: Path, pictures: Mapping[str, np.ndarray], levels: int, stage: str, method: str,
    prior: Path | None = None, budget: Budget | None = None, needs: tuple[str, ...] = ("prior",),
) -> Path:  # fmt: skip
    work = shards.Work.open(output, {"stage": stage, "method": method})
    files, lines = {}, []
    for path, pixels in pictures.items():
        shifted = _shift(pixels, levels, path)
        files[path] = encode_png(shifted)
        lines.append({
            "path": path, "label": path.split("/")[0], "source": path,
            "sha256": hashlib.sha256(files[path]).hexdigest(), "pixels_sha256": pixels_sha256(shifted),
            "width": 32, "height": 32,
            "linf": int(np.abs(shifted.astype(int) - pixels).max()), "l2": 0.5, "psnr": 31.4, "shard": 0,
        })  # fmt: skip
    if not work.complete:
        work.commit("0", files, lines)
    role = {"protect": "source"}.get(stage, "protected" if manifest.find(source) else "source")
    digest = None if manifest.find(source) else "0" * 64
    parents = [manifest.dependency(role, source, output=output, digest=digest)]
    parents += [manifest.dependency("prior", prior, output=output)] if prior else []
    knows = "budget" if needs else "nothing"
    noted: dict[str, Any] = {"attacker": {"needs": list(needs), "knows": knows}} if stage == "purify" else {}
    noted |= {"perceptual_guide": {"name": "prior-features", "sha256": None}} if method == "jcdp" else {}
    return work.seal(
        manifest.statement(
            stage=stage, method=method, budget=budget, dependencies=parents, notes=noted,
            run=RunDetails(device="cpu", versions={"ue-audit": "0"}),
        )
    )  # fmt: skip


def _evaluation(place: Path, found: list[dict[str, Any]], noted: dict[str, Any]) -> Path:
    output = place / "data.eval"
    work = shards.Work.open(output, {"stage": "evaluate"})
    for record in found:
        work.commit(record["key"], {}, [record])
    parents = [manifest.dependency("clean", place / "data" / "train", output=output, digest="0" * 64)]
    for role, name, _ in MEANS:
        if (place / name).is_dir():
            parents.append(manifest.dependency(role, place / name, output=output))
    return work.seal(
        manifest.statement(
            stage="evaluate", method="supervised", dependencies=parents, notes=noted,
            settings={"folders": ["data/train", "data.emn"]}, counts={"trainings": len(found)},
            run=RunDetails(device="cpu"),
        )
    )  # fmt: skip

"""Small image folders for tests, and a stage that does nothing but write one."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ue_audit import imagefolder, manifest, shards


def noise(seed: int, height: int = 8, width: int | None = None) -> np.ndarray:
    """(H,W,3) uint8, the same for the same seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width or height, 3), dtype=np.uint8)


def saved(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """An image as the bytes of a file."""
    out = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(out, kind, **options)
    return out.getvalue()


def image_tree(root: Path, classes: tuple[str, ...] = ("a", "b"), each: int = 4, size: int = 8) -> Path:
    """<root>/<class>/<number>.png; images of one number differ between classes."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for image in range(each):
            (root / name / f"{image}.png").write_bytes(saved(noise(1000 * number + image, size)))
    return root


def brighter(x: np.ndarray, levels: int) -> np.ndarray:
    return np.clip(x.astype(int) + levels, 0, 255).astype(np.uint8)


def protect(
    source: Path, output: Path, levels: int = 3, rows: int = 4, limit: float = 8 / 255, fresh: bool = False
) -> Path:
    """A protection as simple as can be: `levels` brighter, in shards of `rows` images."""
    listing = imagefolder.scan(source)
    taken = imagefolder.intake(listing)
    parameters = {"levels": levels, "source": manifest.source_digest(taken.sources)}
    work = shards.Work.open(output, parameters, fresh=fresh)
    if work.complete:
        return output
    paths = taken.outputs()
    for number, start in enumerate(range(0, len(paths), rows)):
        if str(number) not in work.done:
            files, records = {}, []
            for row in range(start, min(start + rows, len(paths))):
                files[paths[row]], record = written(taken.data.pixels[row], levels)
                records.append(taken.describe(row, paths[row]) | record | {"shard": number})
            work.commit(str(number), files, records)
    return work.seal(
        manifest.statement(
            stage="protect",
            method="brighter",
            config={"levels": levels},
            budget={"norm": "linf", "limit": limit},
            counts=taken.counts(),
            dependencies=[
                manifest.dependency("source", source, output=output, digest=manifest.source_digest(taken.sources)),
                *held_out(source.parent, output),
            ],
        )
    )


def held_out(folder: Path, output: Path) -> list[manifest.Dependency]:
    """The test and validation images beside the training images, as parents."""
    named = imagefolder.parts(folder)._asdict()
    places = {name: named[name] for name in ("test", "val") if named[name] is not None}
    return [
        manifest.dependency(name, place, output=output, digest=manifest.source_digest(imagefolder.scan(place)))
        for name, place in places.items()
    ]


def written(x: np.ndarray, levels: int) -> tuple[bytes, dict[str, Any]]:
    """The PNG of a brighter image and what its record says of it."""
    png = imagefolder.encode_png(brighter(x, levels))
    image = imagefolder.decode(png)
    change = image.pixels.astype(int) - x
    return png, {
        "sha256": image.sha256,
        "pixels_sha256": imagefolder.pixels_sha256(image.pixels),
        "width": x.shape[1],
        "height": x.shape[0],
        "linf": int(np.abs(change).max()),
        "l2": float(np.sqrt(np.square(change).sum())) / 255,
    }


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


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
    dependency = manifest.dependency(role, parent, output=output, digest=manifest.source_digest(taken.sources))
    return work.seal(manifest.statement(stage=stage, method="darker", dependencies=[dependency], **fields))


def prior(raw: Path, output: Path, data: bytes = b"weights") -> Path:
    tree = manifest.source_digest(imagefolder.scan(raw, flat=True))
    dependency = manifest.dependency("raw", raw, output=output, digest=tree, flat=True)
    statement = manifest.statement(stage="train-prior", method="ddpm", dependencies=[dependency])
    return shards.seal_file(output, data, statement)

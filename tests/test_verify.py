"""Every damage is found, and nothing whole is called damaged."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from trees import child, contents, image_tree, noise, prior, protect, saved

from ue_audit import imagefolder, manifest, shards, statement
from ue_audit.manifest import MANIFEST, RECORDS, SUMS, verify

pytestmark = pytest.mark.usefixtures("no_sync")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    image_tree(Path("data/train"))
    image_tree(Path("data/test"), each=1)
    protect(Path("data/train"), Path("out"))
    return tmp_path


def problems(path: str = "out", chain: bool = False) -> list[str]:
    return [str(problem) for problem in verify(Path(path), chain).problems]


# -- whole ----------------------------------------------------------------------------------------------


def test_no_false_alarm_on_a_hundred_clean_trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dice = random.Random(0)
    for number in range(100):
        source = image_tree(Path(f"{number}/train"), tuple("abcde"[: dice.randint(1, 5)]), dice.randint(1, 4))
        output = protect(source, Path(f"{number}.out"), dice.randint(0, 8), dice.randint(1, 9))
        checked = verify(output, chain=True)
        assert checked.problems == [] and checked.checked == len(contents(output)) - 1
        shutil.rmtree(output)


def test_whole_generations(place: Path) -> None:
    child(Path("out"), Path("out.jcdp"))
    image_tree(Path("raw/any"))
    prior(Path("raw"), Path("prior.ckpt"))
    assert problems("out.jcdp", chain=True) == problems("prior.ckpt", chain=True) == []


def test_other_files_in_the_owner_s_folder_do_not_matter(place: Path) -> None:
    Path("data/train/a/new.png").write_bytes(saved(noise(5)))
    assert problems(chain=True) == []


# -- bits -----------------------------------------------------------------------------------------------


def test_a_thousand_flipped_bits_are_all_found(place: Path) -> None:
    dice = random.Random(0)
    files = [path for path in Path("out").rglob("*") if path.is_file()]
    own = [Path("out") / name for name in (MANIFEST, RECORDS, SUMS)]
    found = 0
    for number in range(1000):
        path = dice.choice(own if number % 2 else files)
        whole = path.read_bytes()
        at, bit = dice.randrange(len(whole)), dice.randrange(8)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        found += bool(problems())
        path.write_bytes(whole)
    print(f"\n{found} of 1000 flipped bits found")
    assert found == 1000 and problems() == []


# -- the chain ------------------------------------------------------------------------------------------


def test_a_changed_source_is_found_in_the_chain_only(place: Path) -> None:
    Path("data/train/a/0.png").write_bytes(saved(noise(99)))
    assert problems() == []
    assert problems(chain=True) == [
        "a/0.png: its source a/0.png has changed",
        "[source]: is not what this output was made from: data/train has changed",
    ]


def test_changed_test_images_are_found(place: Path) -> None:
    Path("data/test/a/0.png").write_bytes(saved(noise(99)))
    assert problems(chain=True) == ["[test]: is not what this output was made from: data/test has changed"]


def test_a_missing_parent_is_found(place: Path) -> None:
    shutil.rmtree("data/test")
    Path("data/train/a/1.png").unlink()
    assert problems(chain=True)[-1] == "[test]: is not at data/test"
    assert any(line.startswith("a/1.png: its source") for line in problems(chain=True))


def test_damage_of_a_parent_is_named_by_the_way_to_it(place: Path) -> None:
    child(Path("out"), Path("out.jcdp"))
    Path("out/a/0.png").write_bytes(saved(noise(99)))
    assert problems("out.jcdp") == []
    found = problems("out.jcdp", chain=True)
    assert found == ["[protected]/a/0.png: is not the file its record was written for"]


def test_a_parent_made_anew_is_another_parent(place: Path) -> None:
    child(Path("out"), Path("out.jcdp"))
    protect(Path("data/train"), Path("out"), fresh=True)
    assert problems("out.jcdp", chain=True) == []  # the same bytes: the same tree
    protect(Path("data/train"), Path("out"), levels=5, fresh=True)
    assert problems("out.jcdp", chain=True) == ["[protected]: is not what this output was made from: out has changed"]


def test_a_part_of_a_parent_is_enough_if_it_is_the_part_that_was_used(place: Path) -> None:
    """With --limit only some images are taken: their digest is not that of the whole parent."""
    taken = imagefolder.intake(imagefolder.scan(Path("out"), limit=3))
    work = shards.Work.open(Path("part"), {})
    files = {path: imagefolder.encode_png(taken.data.pixels[row]) for row, path in enumerate(taken.outputs())}
    records = [taken.describe(row, path) | {"sha256": taken.sources[row].sha256} for row, path in enumerate(files)]
    work.commit("0", files, records)
    tree = manifest.source_digest(taken.sources)
    parent = manifest.dependency("protected", Path("out"), output=Path("part"), digest=tree)
    work.seal(manifest.statement(stage="purify", method="x", dependencies=[parent]))
    assert problems("part", chain=True) == []
    protect(Path("data/train"), Path("out"), levels=5, fresh=True)
    assert len(problems("part", chain=True)) == 1


def test_a_parent_that_is_a_file_is_checked_too(place: Path) -> None:
    image_tree(Path("raw/any"))
    prior(Path("raw"), Path("prior.ckpt"))
    named = manifest.dependency("prior", Path("prior.ckpt"), output=Path("made"))
    work = shards.Work.open(Path("made"), {})
    work.seal(manifest.statement(stage="purify", method="x", dependencies=[named, named]))
    assert problems("made", chain=True) == []
    Path("prior.ckpt").write_bytes(b"weight!")
    assert problems("made", chain=True) == [
        "[prior]: is not the file its manifest was written for",
        "[prior]: is not what this output was made from: prior.ckpt has changed",
        "[prior]: is not what this output was made from: prior.ckpt has changed",
    ]


def test_a_damaged_prior_is_found(place: Path) -> None:
    image_tree(Path("raw/any"))
    prior(Path("raw"), Path("prior.ckpt"))
    for path in (Path("prior.ckpt"), statement.sidecar(Path("prior.ckpt"))):
        whole = path.read_bytes()
        for at in range(0, len(whole), 7):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            assert problems("prior.ckpt")
        path.write_bytes(whole)
    assert problems("prior.ckpt") == []
    Path("prior.ckpt").unlink()
    assert problems("prior.ckpt")


# -- size -----------------------------------------------------------------------------------------------


MEASURE = """
import resource, sys, time
from pathlib import Path
from ue_audit import imagefolder, manifest
start = time.monotonic()
entries = len(imagefolder.scan(Path(sys.argv[1])).entries)
scanned = time.monotonic() - start
found = len(manifest.verify(Path(sys.argv[1])).problems)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(entries, found, scanned, time.monotonic() - start, peak)
"""


@pytest.mark.skipif(not os.environ.get("UE_AUDIT_SLOW"), reason="set UE_AUDIT_SLOW=1: 60,000 files, about a minute")
def test_sixty_thousand_files_in_a_minute_and_half_a_gigabyte(tmp_path: Path) -> None:
    """In a process of its own, so that the peak of its memory is that of scanning and verifying."""
    names = [f"{number % 100:03d}/{number:05d}.png" for number in range(60_000)]
    pixels = [noise(seed, 32) for seed in range(64)]
    kinds = [(imagefolder.encode_png(x), imagefolder.pixels_sha256(x)) for x in pixels]
    work = shards.Work.open(tmp_path / "out", {})
    for start in range(0, len(names), 512):
        files, records = {}, []
        for number, name in enumerate(names[start : start + 512], start):
            data, pixels_sha256 = kinds[number % 64]
            files[name] = data
            found = {"path": name, "label": name[:3], "source": name, "source_sha256": "0" * 64, "actions": []}
            found |= {"sha256": imagefolder.decode(data).sha256, "pixels_sha256": pixels_sha256}
            records.append(found | {"width": 32, "height": 32, "linf": 8, "l2": 1.234567, "psnr": 30.123456})
        work.commit(str(start), files, records)
    work.seal(manifest.statement(stage="protect", method="x"))
    root = str(Path(__file__).resolve().parents[1])
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    entries, found, scanned, seconds, peak = (float(word) for word in measured.stdout.split())
    print(f"\n{entries:.0f} files: scan {scanned:.1f} s, scan and verify {seconds:.1f} s, peak {peak:.0f} MB")
    assert entries == 60_000 and found == 0 and seconds < 60 and peak < 500

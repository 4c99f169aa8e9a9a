"""Parts that do not make up one set are refused, and the one that is wrong is named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shared_out import SET, merged, parts, purified
from stand_ins import photos

from ue_audit import gathering, manifest, protect, purify
from ue_audit.errors import AuditError, IntegrityError, UsageError
from ue_audit.settings import ProtectSettings, PurifySettings
from ue_audit.statement import render

pytest_plugins = ("shared_out",)
pytestmark = pytest.mark.usefixtures("here")


def refusal(*folders: Path, error: type[AuditError] = UsageError) -> AuditError:
    with pytest.raises(error) as refused:
        merged(*folders)
    assert not Path("data.maps.stand_ins.grey").exists(), "nothing is written before all parts are found right"
    return refused.value


def rewritten(part: Path, **fields) -> None:
    """The part with another, equally sound manifest."""
    (part / manifest.MANIFEST).write_bytes(render(manifest.read(part).model_copy(update=fields)))


def test_the_order_of_the_parts_does_not_matter():
    one, two, three = parts(3)
    assert [part.path for part in gathering.gather([three, one, two])] == [one, two, three]


def test_of_a_single_part_the_others_are_found_beside_it():
    found = parts(3)
    assert [part.path for part in gathering.gather([found[1]])] == found
    assert [part.path for part in gathering.gather(parts(1))] == [Path("data.maps.stand_ins.grey.shard-1-of-1")]


def test_a_missing_part_is_named_with_the_line_that_makes_it():
    one, _, three = parts(3)
    shutil.rmtree("data.maps.stand_ins.grey.shard-2-of-3")
    for asked in ([one, three], [one], [three]):
        error = refusal(*asked)
        assert error.message == "expected 3 parts, found 2; missing: 2/3"
        assert error.hint.endswith("ue-audit purify --method stand_ins.grey --shard 2/3 data.maps")


def test_a_part_that_is_there_twice():
    one, two = parts(2)
    shutil.copytree(one, "copy")
    error = refusal(one, two, Path("copy"))
    assert "twice" in error.message and "copy: part 1/2" in error.details
    assert "twice" in refusal(one, one, two).message


def test_parts_of_two_divisions():
    error = refusal(*parts(2), parts(3)[2])
    assert "one division" in error.message
    assert "data.maps.stand_ins.grey.shard-3-of-3: part 3/3" in error.details


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"seed": 1}, "seed: 0 in part 1/2, 1 in part 2/2"),
        ({"layers": {"flag": {"share": 0.5}}}, "config.share: 1.0 in part 1/2, 0.5 in part 2/2"),
        ({"method": "stand_ins.budgeted"}, "method: 'stand_ins.grey' in part 1/2, 'stand_ins.budgeted' in part 2/2"),
        ({"name": "other"}, "settings.name: '' in part 1/2, 'other' in part 2/2"),
        ({"limit": 14}, "limit: None in part 1/2, 14 in part 2/2"),
        ({"size": 16}, "size: 8 in part 1/2, 16 in part 2/2"),
    ],
)
def test_parts_of_other_settings(more, told):
    one, two = purified("1/2"), purified("2/2", **more)
    error = refusal(one, two)
    assert str(two) in error.message and told in error.details


def test_parts_of_another_set():
    photos(Path("other"), each=5, seed=7)
    other = protect.run(ProtectSettings(source=Path("other"), method="stand_ins.maps", output=Path("other.maps")))
    two = purified("2/2", source=other)
    error = refusal(purified("1/2"), two)
    assert {line.partition(":")[0] for line in error.details} == {"source", "parents.protected.tree"}


def test_parts_of_two_priors():
    made = []
    for number in (1, 2):
        prior = Path(f"{number}.ckpt")
        prior.write_bytes(b"weights %d" % number)
        made.append(purified(f"{number}/2", method="stand_ins.primed", prior=prior))
    with pytest.raises(UsageError) as refused:
        merged(*made)
    assert [line.partition(":")[0] for line in refused.value.details] == ["parents.prior.sha256", "weights.prior"]


def test_parts_of_two_versions_or_kinds_of_device():
    one, two = parts(2)
    run = manifest.read(two).run
    rewritten(two, run=run.model_copy(update={"versions": run.versions | {"torch": "1.0"}, "device": "cuda:1"}))
    assert {line.partition(":")[0] for line in refusal(one, two).details} == {"versions.torch", "device"}


def test_a_part_that_did_not_find_the_clean_originals():
    one = purified("1/2")
    Path("data").rename("elsewhere")
    two = purified("2/2")
    [line] = refusal(one, two).details
    assert line.startswith("figures of images:") and line.count("residual_correlation") == 1


@pytest.mark.parametrize("other", ["whole", "protected", "plain", "nothing"])
def test_what_is_no_part(other):
    one, _ = parts(2)
    place = {"whole": Path("whole"), "protected": SET, "plain": Path("data/train"), "nothing": Path("nowhere")}[other]
    if other == "whole":
        purified(output=place)
    assert place.name in refusal(one, place).message


def test_a_part_that_is_not_sealed():
    one, two = parts(2)
    (two / manifest.MANIFEST).rename(two / manifest.JOURNAL)
    error = refusal(one, two, error=IntegrityError)
    assert error.message == f"{two} is unfinished work of ue-audit" and "resumes" in error.hint


def test_a_part_that_was_changed():
    one, two = parts(2)
    image = next(two.rglob("*.png"))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(image)
    with pytest.raises(IntegrityError, match="is not the image that was sealed") as refused:
        merged(one, two)
    assert str(image) in refused.value.message
    with (one / manifest.RECORDS).open("ab") as records:
        records.write(b"\n")
    with pytest.raises(IntegrityError, match="was changed after it was written"):
        merged(one, two)


def forged(part: Path, change) -> None:
    """The part with other records, sealed again."""
    lines = [json.loads(line) for line in (part / manifest.RECORDS).read_bytes().splitlines()]
    change(lines)
    (part / manifest.RECORDS).write_bytes(b"".join(manifest.canonical(line) + b"\n" for line in lines))
    rewritten(part, records_sha256=manifest.file_sha256(part / manifest.RECORDS))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines.pop(), "does not hold the images of part 2/2"),
        (lambda lines: lines[0].update(shard=0), "does not hold the images of part 2/2"),
        (lambda lines: lines[0].update(path="../escape.png"), "does not hold the images of part 2/2"),
        (lambda lines: lines[0].update(path="ue-audit.json"), "does not hold the images of part 2/2"),
        (lambda lines: lines[0].update(path="class0/000.png"), "1 images are in several parts"),
    ],
)
def test_a_part_that_holds_other_images(change, told):
    one, two = parts(2)
    forged(two, change)
    assert told in refusal(one, two, error=IntegrityError).message


def test_a_manifest_with_settings_that_are_none():
    one, two = parts(2)
    rewritten(two, settings=manifest.read(two).settings | {"shard": "3/2"})
    assert str(two) in refusal(one, two).message


def test_the_missing_part_of_a_set_with_odd_names():
    photos(Path("my photos"))
    one = purify.run(PurifySettings(source=Path("my photos"), method="stand_ins.grey", shard="1/2"))
    assert refusal(one).hint.endswith("--shard 2/2 'my photos'")

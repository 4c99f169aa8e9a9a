"""What a manifest says, how it is written and read back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ue_audit import digests, manifest, shards
from ue_audit.errors import IntegrityError, NonFiniteError
from ue_audit.manifest import Manifest
from ue_audit.settings import ProtectSettings
from ue_audit.statement import parse, render


def example(**fields: Any) -> Manifest:
    values: dict[str, Any] = {
        "stage": "protect",
        "method": "mylab.ops/2",
        "config": {"eps": "8/255", "rounds": 20, "none": None, "list": [1, 2.5], "nested": {"a": True}},
        "budget": {"norm": "linf", "limit": "8/255"},
        "counts": {"seen": 3},
        "notes": {"text": "naïve 日本 [/nope] <script>"},
        "warnings": ["one", "two"],
        "dependencies": [
            manifest.Dependency(name="source", uri="../data", digest={"tree": "0" * 64}, skipped=("a/1.png",)),
            manifest.Dependency(name="prior", uri="../p.ckpt", digest={"sha256": "1" * 64}),
        ],
    }
    return manifest.statement(**(values | fields))


def test_it_is_an_in_toto_statement_with_slsa_provenance() -> None:
    nested = json.loads(render(example(tree="ab" * 32, records_sha256="cd" * 32)))
    assert nested["_type"] == "https://in-toto.io/Statement/v1"
    assert nested["subject"] == [{"name": ".", "digest": {"dirHash1": "ab" * 32, "records": "cd" * 32}}]
    build, details = nested["predicate"]["buildDefinition"], nested["predicate"]["runDetails"]
    assert build["buildType"] == "urn:ue-audit:protect/mylab.ops/2/1"
    assert build["externalParameters"]["config"]["eps"] == "8/255"
    assert [d["name"] for d in build["resolvedDependencies"]] == ["source", "prior"]
    assert set(details) == {"builder", "metadata", "run"}


def test_it_reads_back_as_it_was() -> None:
    m = example(seed=7, summary={"images": 3}, run={"resumed": 2, "seconds": 1.5})
    assert parse(render(m), "here") == m


def test_numbers_of_numpy_and_paths_are_recorded_plainly() -> None:
    m = example(notes={"a": np.float32(0.5), "b": np.int64(3), "c": Path("x/y"), "d": (1, 2)})
    assert parse(render(m), "here").notes == {"a": 0.5, "b": 3, "c": "x/y", "d": [1, 2]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("nan")])
def test_what_is_not_a_number_is_never_recorded(value: float) -> None:
    with pytest.raises(NonFiniteError):
        render(example(notes={"psnr": value}))
    with pytest.raises(NonFiniteError):
        digests.record_lines([{"path": "a", "psnr": value}])


def test_settings_are_kept_with_the_seed_and_without_how_they_were_asked_for() -> None:
    asked = ProtectSettings(source=Path("data"), seed=3, fresh=True)
    m = manifest.statement(stage="protect", method="emn", settings=asked)
    assert m.seed == 3 and m.settings["source"] == "data" and "fresh" not in m.settings


@pytest.mark.parametrize("kind", ["truncated", "empty", "list", "null", "number", "binary", "deep", "missing", "extra"])
def test_a_damaged_manifest_is_an_integrity_error(kind: str) -> None:
    whole = render(example())
    nested = json.loads(whole)
    nested["predicate"].pop("result")
    extra = json.loads(whole) | {"extra": 1}
    damaged = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "list": b"[]",
        "null": b"null",
        "number": b"1e999",
        "binary": bytes(range(256)),
        "deep": b"[" * 100_000,
        "missing": json.dumps(nested).encode(),
        "extra": json.dumps(extra, indent=2).encode(),
    }[kind]
    with pytest.raises(IntegrityError):
        parse(damaged, "here")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = [
    (), ("subject",), ("predicate",), ("predicate", "buildDefinition"), ("predicate", "runDetails", "metadata"),
    ("predicate", "buildDefinition", "resolvedDependencies"), ("predicate", "result", "counts"), ("_type",),
    ("predicate", "buildDefinition", "internalParameters", "budget"), ("predicate", "buildDefinition", "buildType"),
]  # fmt: skip


@given(value=JSON, place=st.sampled_from(PLACES))
@settings(max_examples=300, deadline=None)
def test_any_json_in_any_place_is_an_integrity_error(value: Any, place: tuple[str, ...]) -> None:
    whole = nested = json.loads(render(example()))
    for key in place[:-1]:
        nested = nested[key]
    if place:
        nested[place[-1]] = value
    data = json.dumps(whole if place else value, indent=2).encode() + b"\n"
    if data != render(example()):
        with pytest.raises(IntegrityError):
            parse(data, "here")


def test_every_flipped_bit_of_a_manifest_alone_is_found() -> None:
    """Without the sums: the manifest is one form of its content, and carries the hash of it."""
    whole = render(example())
    for at in range(len(whole)):
        with pytest.raises(IntegrityError):
            parse(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :], "here")


def test_a_consistent_edit_is_found_too() -> None:
    edited = render(example()).replace(b'"rounds": 20', b'"rounds": 10')
    with pytest.raises(IntegrityError, match="was changed"):
        parse(edited, "here")


def test_no_machine_path_or_name_is_kept(tmp_path: Path) -> None:
    deep = [{"x": tmp_path / "data" / "train"}]
    work = shards.Work.open(tmp_path / "out", {"raw": str(tmp_path / "data"), "deep": deep})
    work.commit("0", {}, [])
    work.seal(manifest.statement(stage="x", method="y", settings={"source": str(tmp_path / "data"), "n": 1}))
    text = (tmp_path / "out" / manifest.MANIFEST).read_text()
    assert str(tmp_path) not in text and manifest.read(tmp_path / "out").settings == {"source": "data", "n": 1}
    assert manifest.read(tmp_path / "out").parameters == {"raw": "data", "deep": [{"x": "data/train"}]}

"""Tools: named randomness, arrays and states that outlive the process, weights, devices."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ue_audit.errors import IntegrityError, ResourceError, UsageError
from ue_audit.tools import Tools, pick_device, substream

# -- randomness --------------------------------------------------------------------------------------------


def test_substream_is_the_documented_hash() -> None:
    """The low 64 bits of sha256("0 US a US 1"), halved: written out so that it never changes unnoticed."""
    import hashlib

    digest = hashlib.sha256(b"0\x1fa\x1f1").digest()
    assert substream(0, "a", 1) == int.from_bytes(digest[:8], "little") // 2


@given(st.integers(0, 2**40), st.lists(st.text(alphabet="ab", max_size=3), max_size=3))
def test_substreams_fit_a_generator(seed: int, names: list[str]) -> None:
    assert 0 <= substream(seed, *names) < 2**63


def test_equal_names_equal_numbers_other_names_other_numbers() -> None:
    draws = [
        torch.rand(4, generator=Tools(seed=seed).generator(*names))
        for seed, names in [(0, ("x", 1)), (0, ("x", 1)), (1, ("x", 1)), (0, ("x", 2)), (0, ("x1",))]
    ]
    assert torch.equal(draws[0], draws[1])
    assert all(not torch.equal(draws[0], other) for other in draws[2:])


def test_generators_do_not_disturb_each_other_or_the_global_one() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    tools = Tools(seed=5)
    one = tools.generator("a")
    torch.rand(3, generator=tools.generator("b"))
    assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=tools.generator("a")))
    assert torch.equal(torch.get_rng_state(), before)


# -- what outlives the process -----------------------------------------------------------------------------


def test_arrays_are_zeroed_and_kept(tmp_path: Path) -> None:
    first = Tools(work=tmp_path / "work").array("delta", (2, 3), "int8")
    assert not first.any()
    first[1] = 7
    first.flush()
    assert Tools(work=tmp_path / "work").array("delta", (2, 3), "int8").tolist() == [[0, 0, 0], [7, 7, 7]]


@pytest.mark.parametrize(("shape", "dtype"), [((3, 3), "int8"), ((2, 3), "float32")])
def test_an_array_of_another_form_begins_anew(shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
    Tools(work=tmp_path).array("delta", (2, 3), "int8")[:] = 1
    again = Tools(work=tmp_path).array("delta", shape, dtype)
    assert (again.shape, str(again.dtype), again.any()) == (shape, dtype, False)


def test_without_a_work_folder_everything_stays_in_memory() -> None:
    tools = Tools()
    assert isinstance(tools.array("x", (2,), "float32"), np.ndarray)
    tools.save("state", lambda: {"a": 1})
    assert tools.restore("state") is None


def test_states_come_back_exactly(tmp_path: Path) -> None:
    tools = Tools(work=tmp_path / "work")
    state = {"round": 3, "delta": torch.randn(5, dtype=torch.float64), "rng": tools.generator("x").get_state()}
    assert tools.restore("search") is None
    tools.save("search", lambda: state)
    found = Tools(work=tmp_path / "work").restore("search")
    assert found is not None and found["round"] == 3
    assert torch.equal(found["delta"], state["delta"]) and torch.equal(found["rng"], state["rng"])


def test_saving_is_no_more_often_than_asked_for(tmp_path: Path) -> None:
    tools = Tools(work=tmp_path)
    states: list[int] = []
    for number in range(5):
        tools.save("search", lambda number=number: states.append(number) or {"n": number}, every=3600)  # type: ignore[misc]
    assert states == [], "the first save waits too, and the state is not even built"
    tools.save("search", lambda: {"n": 9})
    assert tools.restore("search") == {"n": 9}


@pytest.mark.parametrize("damage", [b"", b"not a state"])
def test_a_damaged_state_is_told(damage: bytes, tmp_path: Path) -> None:
    tools = Tools(work=tmp_path)
    tools.save("search", lambda: {"n": 1})
    (tmp_path / "search.state").write_bytes(damage)
    with pytest.raises(IntegrityError) as caught:
        tools.restore("search")
    assert "--fresh" in caught.value.hint


def test_a_state_runs_no_code(tmp_path: Path) -> None:
    """A pickle that would create a file when loaded is refused, and creates none."""

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (tmp_path / "pwned",))

    torch.save({"x": Attack()}, tmp_path / "search.state")
    with pytest.raises(IntegrityError):
        Tools(work=tmp_path).restore("search")
    assert not (tmp_path / "pwned").exists()


# -- weights, notes, devices -------------------------------------------------------------------------------


def test_weights() -> None:
    tools = Tools(weights={"prior": Path("p.ckpt")})
    assert tools.weights("prior") == tools.require_weights("prior", "") == Path("p.ckpt")
    assert tools.weights("lpips") is None
    with pytest.raises(ResourceError) as caught:
        tools.require_weights("lpips", "get them so")
    assert "lpips" in caught.value.message and caught.value.hint == "get them so"


def test_notes() -> None:
    tools = Tools()
    tools.note("rounds", 3)
    assert tools.notes == {"rounds": 3}


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UsageError, match="abacus"):
        pick_device("abacus")
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ResourceError, match=missing):
        pick_device(missing)


def test_an_array_torn_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    box = Tools(work=tmp_path)
    box.array("a", (4, 4), "float16")[:] = 1
    whole = (tmp_path / "a.npy").read_bytes()
    for cut in (0, 5, 80):  # the file has its full length as soon as its header is written
        (tmp_path / "a.npy").write_bytes(whole[:cut])
        assert box.array("a", (4, 4), "float16").tolist() == [[0] * 4] * 4
    assert box.array("a", (2, 2), "float16").shape == (2, 2)


def test_a_state_asked_for_at_once_is_saved_at_once_and_never_torn(tmp_path: Path) -> None:
    box = Tools(work=tmp_path)
    box.save("s", lambda: {"a": torch.ones(3)})
    (tmp_path / "s.state.tmp").write_bytes(b"torn")
    found = box.restore("s")
    assert found is not None and found["a"].tolist() == [1, 1, 1]
    box.save("s", lambda: {"a": torch.zeros(3)}, every=3600)
    again = box.restore("s")
    assert again is not None and again["a"].tolist() == [1, 1, 1]


def test_each_process_of_torchrun_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda") == torch.device("cuda:1")
    with pytest.raises(UsageError, match="share one GPU"):
        pick_device("cuda:1")
    assert pick_device("cpu") == torch.device("cpu")

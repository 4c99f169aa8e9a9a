"""What torch.save and safetensors wrote comes back; what is hostile or damaged is refused before it is loaded."""

import io
import time
from collections import OrderedDict

import hostile_weights as hostile
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ue_audit import tensors
from ue_audit.errors import IntegrityError, ResourceError


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(4, 5))


def equal(a, b) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in b)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_torch_saves_is_read(tmp_path, legacy):
    model = network()
    optimiser = torch.optim.Adam(model.parameters())
    model[2](torch.zeros(1, 4)).sum().backward()
    optimiser.step()
    shared = torch.arange(12.0)
    nest = {
        "model": model.state_dict(),  # with _metadata
        "optimiser": optimiser.state_dict(),
        "parts": [3, 0.5, "text", None, True, (1, 2)],
        "halves": OrderedDict(a=torch.ones(2).half(), b=torch.ones(2).bfloat16()),
        "views": {"a": shared[:6].view(2, 3), "b": shared.view(3, 4).t(), "c": shared[7:]},
        "parameter": nn.Parameter(torch.ones(3)),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(3),
        "size": torch.Size([2, 3]),
    }
    file = tmp_path / "w"
    torch.save(nest, file, _use_new_zipfile_serialization=not legacy)
    found = tensors.read(file)
    assert equal(found["model"], model.state_dict()) and equal(found["views"], nest["views"])
    assert found["parts"] == nest["parts"] and found["scalar"] == 3 and found["empty"].shape == (0, 4)
    assert torch.equal(found["optimiser"]["state"][4]["exp_avg"], optimiser.state_dict()["state"][4]["exp_avg"])


def test_safetensors_are_read(tmp_path):
    save_file(network().state_dict(), tmp_path / "w.bin")
    assert equal(dict(sorted(tensors.read(tmp_path / "w.bin").items())), dict(sorted(network().state_dict().items())))


@pytest.fixture(scope="module")
def state():
    return {name: w for name, w in network().state_dict().items() if w.dtype == torch.float32}


def test_hostile_and_damaged_files(state, tmp_path):
    """Over 70 files: each refused with one clear line, none run, quickly, in little memory."""
    canary, path = tmp_path / "canary", tmp_path / "file"
    kinds = hostile.pickles(state, canary) | hostile.archives(state, canary) | hostile.headers(state)
    assert len(kinds) >= 70
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, (raw, words) in kinds.items():
        path.write_bytes(raw)
        start = time.monotonic()
        with pytest.raises(IntegrityError) as caught:
            tensors.read(path)
        message = caught.value.message
        assert words in message and str(path) in message and "\n" not in message and len(message) < 400, (name, message)
        assert time.monotonic() - start < 20, name
        assert not canary.exists(), name
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB, but bytes on macOS
    assert grown < 600 * 2**10 * (1024 if before > 2**32 else 1)


def test_every_cut_and_many_flipped_bits(state, tmp_path):
    """Refused, or harmless: the tensors that come back are those of the file, but for a bit in a safetensors value."""
    path, dice = tmp_path / "file", torch.Generator().manual_seed(0)
    for legacy in (False, True):
        raw = hostile.saved({"w": torch.arange(4.0)}, legacy)
        for length in torch.randint(len(raw), (60,), generator=dice).tolist():
            path.write_bytes(raw[:length])
            with pytest.raises(IntegrityError):
                tensors.read(path)
        for place in torch.randint(8 * len(raw), (150,), generator=dice).tolist():
            flipped = bytearray(raw)
            flipped[place // 8] ^= 1 << place % 8
            path.write_bytes(flipped)
            try:
                found = tensors.read(path)
            except IntegrityError:
                continue
            assert isinstance(found, dict) and all(w.numel() <= 4 for w in found.values())


def test_what_is_no_file(tmp_path):
    with pytest.raises(ResourceError, match="cannot read"):
        tensors.read(tmp_path / "nowhere")
    for place in (tmp_path, "/dev/zero"):
        with pytest.raises(IntegrityError, match="something else"):
            tensors.read(tmp_path / place)


def test_a_file_that_is_too_large_is_not_opened(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(tensors.FILE_BYTES + 1)  # sparse
    with pytest.raises(IntegrityError, match="at most"):
        tensors.read(tmp_path / "large")


def test_loading_is_safe_on_its_own_too(tmp_path):
    """The second gate: what reaches torch.load is read with weights_only."""
    buffer = io.BytesIO(hostile.saved({"z": hostile.Payload(tmp_path / "canary")}))
    with pytest.raises(Exception, match="eval"):
        torch.load(buffer, weights_only=True)


def test_weights_are_finite_and_have_memory_of_their_own():
    row = torch.arange(6.0)
    tensors.check_sound({"a": row[:3], "b": row[3:]}, "it")
    for wrong, words in (
        ({"a": row[:3], "b": row[2:]}, "b: overlaps a"),
        ({"a": row, "b": torch.tensor([torch.nan])}, "b: found NaN"),
        ({"a": torch.arange(3)}, "a: expected numbers with a fraction"),
    ):
        with pytest.raises(IntegrityError, match=words):
            tensors.check_sound(wrong, "it")

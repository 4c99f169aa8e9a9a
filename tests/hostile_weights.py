"""Files of weights that are hostile, damaged or something else; `made` writes them all, each with what is said of it.

Payloads would write the file `canary` if anything ran them.
"""

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch


class Payload:
    """Runs `expression` when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (eval, (f"open({str(self.canary)!r}, 'w').close()",))


def saved(value, legacy=False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def rezipped(raw: bytes, change=None, compression=zipfile.ZIP_STORED, **more: bytes) -> bytes:
    """The archive written anew, `change(name, data)` applied to each entry and `more` entries added."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for entry in old.infolist():
            data = old.read(entry)
            data = change(entry.filename, data) if change else data
            if data is not None:
                new.writestr(zipfile.ZipInfo(entry.filename), data, compression)
        for name, data in more.items():
            new.writestr(zipfile.ZipInfo(f"archive/{name}"), data)
    return out.getvalue()


def with_pickle(raw: bytes, data: bytes) -> bytes:
    return rezipped(raw, lambda name, old: data if name.endswith("data.pkl") else old)


def tensor_pickle(size, stride, count=4, offset=0, key="0", kind="FloatStorage") -> bytes:
    """The data.pkl of {"w": a tensor of that size and stride in a storage of `count`}."""

    def whole(n: int) -> bytes:
        return b"\x8a" + bytes([len(raw := n.to_bytes((n.bit_length() // 8) + 1, "little", signed=True))]) + raw

    def text(word: str) -> bytes:
        return b"X" + struct.pack("<I", len(word)) + word.encode()

    def row(numbers) -> bytes:
        return b"(" + b"".join(whole(n) for n in numbers) + b"t"

    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + whole(count) + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + whole(offset) + row(size) + row(stride) + b"\x89" + hooks
    )
    return b"\x80\x02}" + text("w") + tensor + b"tRs."


def expression(code: str) -> bytes:
    """A pickle of protocol 0 opcodes, as exploits are written."""
    return code.encode() + b"."


def safetensors_of(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape=(1,), offsets=(0, 4), dtype="F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def bomb(size: int = 10**8) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(size))
    return out.getvalue()


def doubled(depth: int = 60) -> bytes:
    """A tuple of a tuple of … twice, as the key of a dictionary: its hash takes 2^depth steps."""
    return b"\x80\x02}" + b")" + b"".join(b"q%c" % i + b"h%c" % i + b"\x86" for i in range(depth)) + b"K\x01s."


def overlapping(raw: bytes) -> bytes:
    """The list of entries at the end names the first storage's place for the second, too."""
    places = [i for i in range(len(raw)) if raw[i : i + 4] == b"PK\x01\x02"]
    first, second = [p for p in places if raw[p + 46 :].startswith((b"archive/data/0", b"archive/data/1"))][:2]
    return raw[: second + 42] + raw[first + 42 : first + 46] + raw[second + 46 :]


def pickles(state: dict, canary: Path) -> dict[str, tuple[bytes, str]]:
    """Programs, and descriptions of tensors that are not there: name -> (bytes, words of the error)."""
    old = saved(state, legacy=True)
    tiny = saved({"w": torch.zeros(4)})
    call = f"c__builtin__\neval\n(Vopen({str(canary)!r},'w')\ntR"
    return {
        "a payload": (pickle.dumps(Payload(canary), protocol=2), "bare pickle"),
        "a payload of protocol 4": (pickle.dumps({"w": Payload(canary)}, protocol=4), "bare pickle"),
        "a payload among tensors": (saved(state | {"z": Payload(canary)}), "'__builtin__.eval'"),
        "a payload in the old form": (saved(state | {"z": Payload(canary)}, legacy=True), "'__builtin__.eval'"),
        "a payload before the magic": (pickle.dumps(Payload(canary), protocol=2) + old, "bare pickle"),
        "os.system": (with_pickle(tiny, expression("cos\nsystem\n(Vtouch x\ntR")), "'os.system'"),
        "posix.system": (with_pickle(tiny, b"\x80\x02cposix\nsystem\nX\x01\x00\x00\x00x\x85R."), "'posix.system'"),
        "an instance": (with_pickle(tiny, expression("(i__builtin__\neval\n")), "INST"),
        "an object": (with_pickle(tiny, expression("(c__builtin__\neval\nVx\no")), "'__builtin__.eval'"),
        "a stack of globals": (with_pickle(tiny, b"\x80\x04\x8c\x02os\x8c\x06system\x93."), "SHORT_BINUNICODE"),
        "an extension": (with_pickle(tiny, b"\x80\x02\x82\x01."), "EXT1"),
        "an attribute of a known module": (with_pickle(tiny, expression("ctorch\nos.system\n")), "'torch.os.system'"),
        "torch.load in a file": (with_pickle(tiny, expression("ctorch\nload\n(Vx\ntR")), "'torch.load'"),
        "a call below a mark": (with_pickle(tiny, b"\x80\x02" + call.encode() + b"0}."), "'__builtin__.eval'"),
        "a bytearray of a terabyte": (
            with_pickle(tiny, b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + bytes(5) + b"\x01\x85R."),
            "bytearray",
        ),
        "a key that takes forever": (with_pickle(tiny, doubled()), "for a key"),
        "a nested pickle": (
            with_pickle(tiny, pickle.dumps(pickle.dumps(Payload(canary)), protocol=2)),
            "'_codecs.encode'",
        ),
        "a numpy array": (with_pickle(tiny, expression("cnumpy.core.multiarray\n_reconstruct\n")), "_reconstruct"),
        "a call of a dictionary": (with_pickle(tiny, b"\x80\x02})R."), "calls what is no part"),
        "state set on a list": (with_pickle(tiny, b"\x80\x02]}b."), "sets the state"),
        "a tensor with hooks": (with_pickle(tiny, tensor_pickle((4,), (1,)).replace(b")R", b")RK\x01K\x01s")), "hooks"),
        "an endless pickle": (with_pickle(tiny, b"\x80\x02" + b"]0" * 3_000_000 + b"N."), ""),
        "a text of four gigabytes": (with_pickle(tiny, b"\x80\x02X\xff\xff\xff\xffabc."), "torn"),
        "a stack that runs dry": (with_pickle(tiny, b"\x80\x02s."), "takes more from its stack"),
        "a huge tensor of few bytes": (with_pickle(tiny, tensor_pickle((10**5, 10**5), (0, 0))), "does not lie"),
        "an expanded tensor": (saved({"w": torch.zeros(4).expand(10**6, 4)}), "does not lie"),
        "a window over a storage": (with_pickle(tiny, tensor_pickle((3, 2), (1, 1))), "does not lie"),
        "a tensor beyond its storage": (with_pickle(tiny, tensor_pickle((4,), (1,), offset=3)), "does not lie"),
        "a tensor of negative size": (with_pickle(tiny, tensor_pickle((-4,), (1,))), "no numbers"),
        "a tensor of negative strides": (with_pickle(tiny, tensor_pickle((4,), (-1,), offset=3)), "no numbers"),
        "a storage longer than its bytes": (
            with_pickle(tiny, tensor_pickle((10**9,), (1,), count=10**9)),
            "describes 4000000000 bytes",
        ),
        "a storage of another width": (
            with_pickle(tiny, tensor_pickle((4,), (1,), kind="DoubleStorage")),
            "describes 32 bytes",
        ),
        "a storage that is not there": (with_pickle(tiny, tensor_pickle((4,), (1,), key="7")), "has none"),
        "a storage outside": (with_pickle(tiny, tensor_pickle((4,), (1,), key="../../etc/passwd")), "has none"),
        "a quantised storage": (with_pickle(tiny, tensor_pickle((4,), (1,), kind="QInt8Storage")), "QInt8Storage"),
        "a storage in two ways": (_two_ways(old), "but has 1099511627776"),
        "an old form with more at its end": (old + bytes(64), "goes on"),
        "an old form of another protocol": (old.replace(b"M\xe9\x03.", b"M\xea\x03.", 1), "another time"),
    }


def _two_ways(old: bytes) -> bytes:
    """The number in front of the first storage's bytes is another than in its description."""
    place = old.rindex(b"e.") + 2
    return old[:place] + (2**40).to_bytes(8, "little") + old[place + 8 :]


def archives(state: dict, canary: Path) -> dict[str, tuple[bytes, str]]:
    raw, old = saved(state), saved(state, legacy=True)
    inner = rezipped(raw, **{"data/inner.zip": raw})
    return {
        "nothing": (b"", "neither safetensors nor of torch.save"),
        "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(200), "neither"),
        "text": (b"import os\nos.system('x')\n" * 9, "neither"),
        "a cut archive": (raw[: len(raw) // 2], "cut"),
        "an archive without its last byte": (raw[:-1], "cut"),
        "an archive with something behind it": (raw + b"more", "something follows"),
        "a cut old form": (old[: len(old) * 2 // 3], "ends before"),
        "an old form cut in its description": (old[:200], "torn"),
        "a nested archive": (inner, "inner.zip"),
        "an archive as description": (with_pickle(raw, raw), ""),
        "an archive of text": (_zip({"a.txt": b"hello"}), "not of torch.save"),
        "an archive out of its folder": (_zip({"archive/../../x/data.pkl": b"."}), "not of torch.save"),
        "a program as archive": (_zip({"a/data.pkl": b"\x80\x02}.", "a/code/__torch__.py": b""}), "TorchScript"),
        "two descriptions": (_zip({"a/data.pkl": b"\x80\x02}.", "b/data.pkl": b"\x80\x02}."}), "not of torch.save"),
        "a compressed bomb": (bomb(), "compressed"),
        "compressed storages": (rezipped(raw, compression=zipfile.ZIP_DEFLATED), "compressed"),
        "20,001 entries": (_zip({f"archive/data/{i}": b"" for i in range(20_001)}), "entries"),
        "storages in one place": (overlapping(raw), "overlap"),
        "a flipped bit": (_flipped(raw), "damaged"),
        "a shorter storage": (rezipped(raw, lambda n, d: d[:-4] if n.endswith("data/0") else d), "but has 860"),
        "a missing storage": (rezipped(raw, lambda n, d: None if n.endswith("data/0") else d), "has none"),
        "a list of entries of a terabyte": (_long_directory(raw), "list of entries"),
        "a list of entries of 4 GB": (inner[:-10] + (2**32 - 2).to_bytes(4, "little") + inner[-6:], "list of entries"),
    }  # fmt: skip


def _zip(entries: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return out.getvalue()


def _flipped(raw: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        found = next(e for e in archive.infolist() if "/data/" in e.filename and e.file_size > 16)
        place = found.header_offset + 30 + len(found.filename)
        place += int.from_bytes(raw[found.header_offset + 28 : found.header_offset + 30], "little")
    return raw[: place + 9] + bytes([raw[place + 9] ^ 1]) + raw[place + 10 :]


def _long_directory(raw: bytes) -> bytes:
    """The length in the record for large zips, which torch.save always writes."""
    assert raw[-98:-94] == b"PK\x06\x06"
    return raw[:-58] + (2**40).to_bytes(8, "little") + raw[-50:]


def headers(state: dict) -> dict[str, tuple[bytes, str]]:
    deep = b"[" * 100_000
    return {
        "an endless header": ((2**63 - 1).to_bytes(8, "little") + b"{}", "torn"),
        "a header longer than the file": ((500).to_bytes(8, "little") + b"{}" + bytes(90), "torn"),
        "a header of nothing": (safetensors_of(b"{" + b" " * 40), "header is damaged"),
        "a nested header": (safetensors_of(b'{"a":' + deep), "header is damaged"),
        "a header of text": (safetensors_of({"w": "F32"}), "header is damaged"),
        "data that overlaps": (safetensors_of({"a": entry(), "b": entry()}, bytes(4)), "cannot be read"),
        "data with a gap": (safetensors_of({"a": entry(offsets=(4, 8))}, bytes(8)), "cannot be read"),
        "data beyond the end": (safetensors_of({"a": entry((10**9,), (0, 4 * 10**9))}, bytes(4)), "cannot be read"),
        "data behind the tensors": (safetensors_of({"a": entry()}, bytes(64)), "cannot be read"),
        "a shape that lies": (safetensors_of({"a": entry((10**9, 10**9))}, bytes(4)), "cannot be read"),
        "a negative shape": (safetensors_of({"a": entry((-1,))}, bytes(4)), "cannot be read"),
        "an unknown kind of number": (safetensors_of({"a": entry(dtype="F31")}, bytes(4)), "cannot be read"),
        "an infinite offset": (
            safetensors_of(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1e999]}}'),
            "cannot be read",
        ),
    }


def states(state: dict) -> dict[str, tuple[object, str]]:
    """Whole files whose weights do not hold: what is saved -> words of the error."""
    name = next(iter(state))
    first = state[name]
    shared = torch.zeros(first.numel() + 4)
    other = dict(list(state.items())[1:])
    return {
        "NaN": (state | {name: first * torch.nan}, "NaN or infinity"),
        "infinity": (state | {name: first + torch.inf}, "NaN or infinity"),
        "whole numbers": (state | {name: first.to(torch.int32)}, "a fraction"),
        "Booleans": (state | {name: first.bool()}, "a fraction"),
        "weights that share memory": (
            state | {name: shared[: first.numel()].view(first.shape), "more": shared[2:6]}, "overlaps"
        ),
        "a tensor twice": (state | {"again": first}, "overlaps"),
        "a wrong shape": (state | {name: torch.zeros(3, 5)}, ""),
        "a missing tensor": (other, ""),
        "an unknown tensor": (state | {"zzz.weight": torch.zeros(3)}, "do not fit"),
        "a list of numbers": ([1, 2, 3], "expected tensors by name"),
        "text by name": (OrderedDict(a="text"), "expected tensors by name"),
        "one tensor": (torch.zeros(3), "expected tensors by name"),
        "no tensors": ({}, "expected tensors by name"),
        "an optimiser": ({"state": {}, "param_groups": [{"lr": 0.1}]}, "expected tensors by name"),
        "the weights of a classifier": ({"fc.weight": torch.zeros(3, 3)}, "begin with 'fc.weight'"),
    }  # fmt: skip

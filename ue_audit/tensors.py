"""Tensors in a file of someone else's: safetensors, or what torch.save writes, old (a row of pickles) and new (a zip).

The content tells the kind of file. A pickle reaches `torch.load(weights_only=True)` only after it was read here as
data (`pickles`): it names tensors and nothing else, and each of them lies within a storage that the file has in full.
So nothing in a file is executed, and loading it takes memory for the bytes it has.
"""

import io
import math
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from ue_audit.errors import IntegrityError, ResourceError
from ue_audit.header import read_header
from ue_audit.pickles import Ordered, Refused, read as read_pickle

FILE_BYTES = 2**32
PICKLE_BYTES = 2**26  # of the description of the tensors
ENTRIES = 20_000
DIRECTORY_BYTES = 2**23  # of a zip's list of its entries
MAGIC = 0x1950A86A20F9469CFC6C  # the first of the pickles that torch.save wrote before it wrote zips
LEGACY = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")
PROTO, PICKLE = b"\x80", ", but a bare pickle"
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MEMBER = re.compile(r"data\.pkl|data/\d{1,9}|version|byteorder|\.data/serialization_id|\.format_version|\.storage_alignment")
DAMAGE = (  # what the two readers raise on bytes that are not what they expect
    safetensors.SafetensorError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile, RuntimeError, EOFError,
    ValueError, LookupError, TypeError, AttributeError, AssertionError, NotImplementedError, OverflowError,
)  # fmt: skip
TYPES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip


def read(path: Path) -> Any:
    """What the file holds: tensors by name, or whatever nest of lists and dictionaries torch.save was given.

    Raises ResourceError if it cannot be read, IntegrityError if it is damaged, hostile or something else.
    """
    try:
        if path.exists() and not path.is_file():
            raise IntegrityError(f"{path}: expected a file of tensors, found something else")
        with path.open("rb") as file:
            size = path.stat().st_size
            if size > FILE_BYTES:
                raise IntegrityError(f"{path}: expected at most {FILE_BYTES} bytes, found {size}")
            with _damage(path):
                return _read(file, size, path)
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error.strerror or error}") from error


def _read(file: IO[bytes], size: int, path: Path) -> Any:
    start = file.read(len(LEGACY))
    file.seek(0)
    if start[:4] == b"PK\x03\x04":
        _check_zip(file, size)
    elif start == LEGACY:
        _check_legacy(file, size)
    elif start[8:9] == b"{":
        read_header(file, size, str(path))
        return safetensors.torch.load_file(path)
    else:
        raise Refused(f"is neither safetensors nor of torch.save{PICKLE if start[:1] == PROTO else ''}")
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on old kinds of storage
        return torch.load(file, map_location="cpu", weights_only=True)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        raise IntegrityError(f"{path}: this file {refused}", hint="nothing in it was run") from refused
    except DAMAGE as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IntegrityError(f"{path}: the tensors cannot be read: {text[:120]}") from error


# -- what a pickle says of its tensors ---------------------------------------------------------------------


class Storage(NamedTuple):
    """Numbers in a row: the name of their bytes in the file, how many, and the bytes of each."""

    key: str
    count: int
    width: int


class Seen:
    """The storages a pickle names; raises Refused for a tensor that does not lie in its own."""

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        kinds = {f"torch.{name}": _kind(width) for name, width in TYPES.items()}
        self.known: dict[str, Any] = {
            "collections.OrderedDict": Ordered,
            "torch._utils._rebuild_tensor": self.tensor,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._utils._rebuild_parameter": _parameter,
            "torch.Size": tuple,
            **kinds,
        }

    def storage(self, identity: Any) -> Storage:
        tag, kind, key, _, count, *more = identity
        if tag not in ("storage", b"storage") or not hasattr(kind, "width") or any(part is not None for part in more):
            raise Refused("describes a storage in a way that is not known")
        if not isinstance(key, str) or not _whole(count):
            raise Refused("has a storage without a name or a size")
        found = Storage(key, count, kind.width)
        if self.storages.setdefault(key, found) != found:
            raise Refused(f"describes its storage {key[:20]} in two ways")
        return found

    def tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> tuple[int, ...]:
        if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
            raise Refused("has a tensor without a storage, a shape or strides")
        if len(size) != len(stride) or len(size) > 8 or not all(map(_whole, (offset, *size, *stride))):
            raise Refused("has a tensor whose shape or strides are no numbers")
        if len(rest) > 1 and (not isinstance(rest[1], Ordered) or rest[1]) or any(rest[2:]):
            raise Refused("has a tensor with hooks")
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else 0
        if last >= max(storage.count, 1) or count > storage.count:
            raise Refused(f"has a tensor {size} that does not lie in its storage of {storage.count}")
        return size


class _Kind(NamedTuple):
    width: int

    def __call__(self, *_: Any) -> Any:
        raise Refused("makes a storage of its own")


def _kind(width: int) -> _Kind:
    return _Kind(width)


def _parameter(tensor: Any, requires_grad: Any, hooks: Any) -> Any:
    if not isinstance(requires_grad, bool) or not isinstance(hooks, Ordered) or hooks:
        raise Refused("has a parameter with hooks")
    return tensor


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


# -- the two forms of torch.save ---------------------------------------------------------------------------


def _check_zip(file: IO[bytes], size: int) -> None:
    """A zip of stored entries with the names torch.save gives; each storage has exactly the bytes it should."""
    _check_directory(file, size)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        lengths = _members(entries)
        _check_places(entries, archive.start_dir)
        if lengths["data.pkl"] > PICKLE_BYTES:
            raise Refused(f"has a description of {lengths['data.pkl']} bytes, more than {PICKLE_BYTES}")
        root = entries[0].filename.partition("/")[0]
        stream = io.BytesIO(archive.read(f"{root}/data.pkl"))
        seen = Seen()
        read_pickle(stream, seen.known, seen.storage)
        if stream.read(1):
            raise Refused("goes on after its description")
        for storage in seen.storages.values():
            found = lengths.get(f"data/{storage.key}")
            if found != storage.count * storage.width:
                raise Refused(f"says {storage.count * storage.width} bytes of its storage {storage.key[:20]}, has {found}")
        if archive.testzip() is not None:
            raise Refused("has been damaged: a checksum does not hold")


def _check_directory(file: IO[bytes], size: int) -> None:
    """The list of entries at the end, before it is read into memory."""
    file.seek(max(0, size - 98))
    large, locator, end = (tail := file.read().rjust(98, b"\0"))[:56], tail[56:76], tail[76:]
    if end[:4] != b"PK\x05\x06" or end[20:] != b"\0\0":
        raise Refused("is a zip without an end: it was cut, or something follows it")
    length = int.from_bytes(large[40:48] if locator[:4] == b"PK\x06\x07" else end[12:16], "little")
    if length > DIRECTORY_BYTES:
        raise Refused(f"is a zip with a list of entries of {length} bytes, more than {DIRECTORY_BYTES}")
    file.seek(0)


def _members(entries: list[zipfile.ZipInfo]) -> dict[str, int]:
    """The bytes of each entry by its name below the one folder."""
    roots = {entry.filename.partition("/")[0] for entry in entries}
    names = [entry.filename.partition("/")[2] for entry in entries]
    if len(entries) > ENTRIES:
        raise Refused(f"is a zip of {len(entries)} entries, more than {ENTRIES}")
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise Refused("is a TorchScript archive, which holds code")
    strange = [entry.filename for entry in entries if not MEMBER.fullmatch(entry.filename.partition("/")[2])]
    if strange or len(roots) != 1 or len(set(names)) < len(names) or "data.pkl" not in names:
        raise Refused(f"is a zip, but not of torch.save{f': it holds {strange[0][:60]!r}' if strange else ''}")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
            raise Refused("is a zip with compressed or encrypted entries; torch.save stores them as they are")
    return {name: entry.file_size for name, entry in zip(names, entries, strict=True)}


def _check_places(entries: list[zipfile.ZipInfo], end: int) -> None:
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    ends = [entry.header_offset for entry in ordered[1:]] + [end]
    for entry, after in zip(ordered, ends, strict=True):
        if entry.header_offset + 30 + len(entry.filename) + entry.file_size > after:
            raise Refused("is a zip whose entries overlap")


def _check_legacy(file: IO[bytes], size: int) -> None:
    """Five pickles: magic, protocol, machine, the object, the order of its storages; then their bytes."""
    stream, seen = io.BytesIO(file.read(PICKLE_BYTES)), Seen()
    plain = [read_pickle(stream, {}) for _ in range(3)]
    if plain[:2] != [MAGIC, 1001] or not isinstance(plain[2], dict) or plain[2].get("little_endian") is not True:
        raise Refused("is of another kind of machine or another time than torch.save of 2016 and later")
    read_pickle(stream, seen.known, seen.storage)
    keys = read_pickle(stream, {})
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(seen.storages) or len(keys) > ENTRIES:
        raise Refused("lists other storages than it uses")
    place = stream.tell()
    for storage in (seen.storages[str(key)] for key in keys):
        file.seek(place)
        count = int.from_bytes(file.read(8), "little", signed=True)
        place += 8 + storage.count * storage.width
        if count != storage.count or place > size:
            raise Refused(f"says {storage.count} numbers of a storage, has {count} or ends before")
    if place != size:
        raise Refused("goes on after its last storage")


# -- tensors by name ---------------------------------------------------------------------------------------


def check_sound(state: Mapping[str, Tensor], where: str) -> None:
    """Raises IntegrityError unless all are finite floating-point numbers, none twice in the same memory."""
    wrong = [f"{name}: expected numbers with a fraction, found {w.dtype}" for name, w in state.items() if w.dtype not in FLOATS]
    wrong = wrong or [f"{name}: found NaN or infinity" for name, w in state.items() if not w.isfinite().all()]
    spans = sorted((w.data_ptr(), w.data_ptr() + w.numel() * w.element_size(), name) for name, w in state.items() if w.numel())
    wrong += [f"{b[2]}: overlaps {a[2]}" for a, b in zip(spans, spans[1:], strict=False) if b[0] < a[1]]
    if wrong:
        raise IntegrityError(f"{where}: expected finite weights, each with memory of its own: {wrong[0]}", details=wrong[:10])

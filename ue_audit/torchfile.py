"""Is a file what torch.save writes, old (a row of pickles) or new (a zip), and has it the bytes that it describes?

Its pickle is read as data (`pickles`): it may name tensors and nothing else, and each of them must lie within a storage
that the file has in full. Nothing is loaded here, and what is read follows the bytes there are.
"""

import io
import math
import re
import zipfile
from typing import IO, Any, NamedTuple

from ue_audit import pickles
from ue_audit.pickles import Ordered, Refused

PICKLE_BYTES = 2**26  # of the description of the tensors
ENTRIES = 20_000
DIRECTORY_BYTES = 2**23  # of a zip's list of its entries
MAGIC = 0x1950A86A20F9469CFC6C  # the first of the pickles that torch.save wrote before it wrote zips
LEGACY = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")
ZIP = b"PK\x03\x04"
MEMBER = re.compile(
    r"data\.pkl|data/\d{1,9}|version|byteorder|\.data/serialization_id|\.format_version|\.storage_alignment"
)
WIDTHS = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip


# -- what a pickle says of its tensors ---------------------------------------------------------------------


class Kind:
    """Stands in for a class of storages; `width` is the bytes of a number. Calling it would make one."""

    def __init__(self, width: int) -> None:
        self.width = width

    def __call__(self, *_: Any) -> Any:
        raise Refused("makes a storage of its own")


class Storage(NamedTuple):
    """Numbers in a row: the name of their bytes in the file, how many (`length`), and the bytes of each."""

    key: str
    length: int
    width: int


class Seen:
    """The storages a pickle names; raises Refused for a tensor that does not lie in its own."""

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        kinds = {f"torch.{name}": Kind(width) for name, width in WIDTHS.items()}
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
        if tag not in ("storage", b"storage") or not isinstance(kind, Kind) or any(part is not None for part in more):
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
        if last >= max(storage.length, 1) or count > storage.length:
            raise Refused(f"has a tensor {size} that does not lie in its storage of {storage.length}")
        return size


def _parameter(tensor: Any, requires_grad: Any, hooks: Any) -> Any:
    if not isinstance(requires_grad, bool) or not isinstance(hooks, Ordered) or hooks:
        raise Refused("has a parameter with hooks")
    return tensor


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


# -- the two forms of torch.save ---------------------------------------------------------------------------


def check_zip(file: IO[bytes], size: int) -> None:
    """Raises Refused but for stored entries with the names torch.save gives, each storage of the bytes described."""
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
        pickles.read(stream, seen.known, seen.storage)
        if stream.read(1):
            raise Refused("goes on after its description")
        for storage in seen.storages.values():
            found, due = lengths.get(f"data/{storage.key}"), storage.length * storage.width
            if found != due:
                there = "none" if found is None else found
                raise Refused(f"describes {due} bytes of its storage {storage.key[:20]!r}, but has {there}")
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


def check_legacy(file: IO[bytes], size: int) -> None:
    """Five pickles: magic, protocol, machine, the object, its storages; then their bytes. Raises Refused."""
    stream, seen = io.BytesIO(file.read(PICKLE_BYTES)), Seen()
    plain = [pickles.read(stream, {}) for _ in range(3)]
    if plain[:2] != [MAGIC, 1001] or not isinstance(plain[2], dict) or plain[2].get("little_endian") is not True:
        raise Refused("is of another kind of machine or another time than torch.save of 2016 and later")
    pickles.read(stream, seen.known, seen.storage)
    keys = pickles.read(stream, {})
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(seen.storages) or len(keys) > ENTRIES:
        raise Refused("lists other storages than it uses")
    place = stream.tell()
    for storage in (seen.storages[str(key)] for key in keys):
        file.seek(place)
        count = int.from_bytes(file.read(8), "little", signed=True)
        place += 8 + storage.length * storage.width
        if place > size:
            raise Refused("ends before its last storage")
        if count != storage.length:
            raise Refused(f"describes {storage.length} numbers in a storage, but has {count}")
    if place != size:
        raise Refused("goes on after its last storage")

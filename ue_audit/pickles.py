"""A pickle read as data: an interpreter of the few opcodes that files of weights need.

A pickle is a program; `pickle.load` runs whatever it names. Nothing here imports or calls what a pickle names: a
global must be a key of `known`, and the stand-in given for it is called in its place. So a file can be looked through
before a real loader sees it, and memory follows the bytes of the file, not the numbers written in it.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

OPCODES = 5_000_000  # a state dict has about 30 for each tensor

PUSHED = {  # opcodes whose argument is the value
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "BINSTRING",
    "SHORT_BINSTRING",
}  # fmt: skip
MADE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
}  # fmt: skip
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Refused(ValueError):
    """What is wrong with a pickle, as the end of a sentence."""


class Ordered(dict[Any, Any]):
    """Stands in for `collections.OrderedDict`; the attributes that torch hangs on one are dropped."""

    def __init__(self) -> None:
        super().__init__()

    def build(self, state: object) -> None:
        if not isinstance(state, dict):
            raise Refused("sets the state of a dictionary to something else")


class Machine:
    """The stack, marks and memo of one pickle."""

    def __init__(self, known: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any] | None) -> None:
        self.known, self.persistent = known, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """One opcode. Raises Refused for those that are not needed to describe tensors."""
        if name in PUSHED:
            self.stack.append(argument)
        elif name in MADE:
            self.stack.append(MADE[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in TUPLES:
            self.stack.append(tuple(self._pop(TUPLES[name])))
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name == "TUPLE":
            self.stack.append(tuple(self._since_mark()))
        elif name in ("APPEND", "APPENDS"):
            self._append(self._pop(1) if name == "APPEND" else self._since_mark())
        elif name in ("SETITEM", "SETITEMS"):
            self._set(self._pop(2) if name == "SETITEM" else self._since_mark())
        else:
            self._call(name, argument)

    def _call(self, name: str, argument: Any) -> None:
        if name == "GLOBAL":
            self.stack.append(self._global(argument.replace(" ", ".", 1)))
        elif name == "REDUCE":
            made, arguments = self._pop(2)
            if not any(made is stand_in for stand_in in self.known.values()) or not isinstance(arguments, tuple):
                raise Refused("calls what is no part of a tensor")
            self.stack.append(made(*arguments))
        elif name == "BUILD":
            (state,) = self._pop(1)
            if not hasattr(self.stack[-1], "build"):
                raise Refused("sets the state of an object")
            self.stack[-1].build(state)
        elif name == "BINPERSID" and self.persistent is not None:
            self.stack.append(self.persistent(*self._pop(1)))
        elif name != "PROTO":
            raise Refused(f"uses the opcode {name}, which tensors do not need")

    def _global(self, name: str) -> Callable[..., Any]:
        if name not in self.known:
            raise Refused(f"names {name[:80]!r}, which is no part of a tensor")
        return self.known[name]

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise Refused("takes more from its stack than it put there")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _since_mark(self) -> list[Any]:
        return self._pop(len(self.stack) - self.marks.pop())

    def _append(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise Refused("appends to what is no list")
        self.stack[-1].extend(values)

    def _set(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict) or len(values) % 2:
            raise Refused("sets an item of what is no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | int):  # the hash of a nested tuple can take forever
                raise Refused(f"has a {type(key).__name__} for a key")
            self.stack[-1][key] = value


def read(
    stream: IO[bytes], known: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """The value of the next pickle in `stream`, which is left behind it.

    `known` has a stand-in for each global that is allowed, "module.name"; `persistent` takes persistent ids.
    Raises Refused.
    """
    machine = Machine(known, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if opcode.name == "STOP":
                break
            if count >= OPCODES:
                raise Refused(f"has more than {OPCODES} opcodes")
            machine.step(opcode.name, argument)
        (value,) = machine.stack
    except Refused:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError, MemoryError) as error:
        raise Refused(f"is torn or no pickle ({' '.join(str(error).split())[:80]})") from error
    return value

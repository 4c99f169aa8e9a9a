"""At home on macOS and Windows: a whole audit in a process as Windows has them, and the source read for what Linux
alone offers.

Drives, path lengths, cmd.exe, other processes' files and the locks of the real system are not simulated.
"""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import as_on_windows
import pytest
from stand_ins import owner
from test_layers import ROOT
from trees import contents

FILES = sorted(ROOT.rglob("*.py"))
AUDIT = """name: small\r
source: {clean: data, raw: data/raw}\r
protections: [{method: emn, set: {min_rounds: 2, max_rounds: 3, surrogate_steps: 2, steps: 1, batch: 8}}]\r
prior: {preset: tiny, set: {steps: 3, batch: 4, check_every: 2}}\r
purifiers: [jcdp]\r
evaluation: {seeds: 1, set: {epochs: 2, batch: 8}}\r
"""


# -- a whole audit ---------------------------------------------------------------------------------------------


def audited(place: Path, *program: str) -> None:
    owner(place / "data", each=8, size=8)
    (place / "audit.yaml").write_bytes(AUDIT.encode())
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "cp1252"}
    line = [sys.executable, "-X", "warn_default_encoding", *program, "run", "-o", "out", "audit.yaml"]
    ended = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, encoding="cp1252")
    assert ended.returncode == 0, ended.stderr[-3000:]
    ours = [text for text in ended.stderr.splitlines() if "EncodingWarning" in text and str(ROOT) in text]
    assert ours == [] and "honesty checks" in ended.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="what is mapped is read from /proc")
def test_an_audit_as_on_windows_leaves_the_same_bytes(tmp_path: Path) -> None:
    """All stages: without POSIX modules and functions, files in use that cannot be removed, a cp1252 pipe, CR LF."""
    here, there = tmp_path / "linux" / "x", tmp_path / "windows" / "x"
    audited(here, "-m", "ue_audit")
    audited(there, as_on_windows.__file__)
    first, second = (contents(place / "out") for place in (here, there))
    assert first.keys() == second.keys(), "no lock, no work folder, no draft is left"
    timed = {name for name in first if name.startswith("data.report/") and not name.endswith(".png")}
    assert len(timed) == 7 and len(first) > 3 * 24
    for name in first.keys() - timed:
        assert without_times(name, first[name]) == without_times(name, second[name]), name
    assert b"\r" not in b"".join(second[name] for name in timed)


def without_times(name: str, data: bytes) -> object:
    """A manifest without the details of its run, sums without the line of the manifest, anything else as it is."""
    if name.endswith("ue-audit.json"):
        found = json.loads(data)
        del found["predicate"]["runDetails"]
        return found
    if name.endswith(".sums"):
        return [line for line in data.split(b"\n") if not line.endswith(b"  ue-audit.json")]
    return data


def test_the_stand_in_refuses_what_windows_does(tmp_path: Path) -> None:
    """Removing, replacing and beginning anew what is open or mapped, odd names, folders opened, POSIX modules."""
    code = """
import os, sys
sys.path.insert(0, sys.argv[1])
import as_on_windows
as_on_windows.begin()
import numpy as np
from pathlib import Path
from ue_audit import storage
from ue_audit.tools import Tools
def refused(act):
    try:
        act()
    except (OSError, AttributeError, ImportError) as error:
        return type(error).__name__
a, b = Path("a.npy"), Path("b")
b.write_bytes(b"x")
array = np.memmap(a, np.uint8, "w+", shape=(4096,))
print(refused(a.unlink), refused(lambda: b.replace(a)), refused(lambda: a.open("wb")))
del array
print(refused(lambda: b.replace(a)), refused(lambda: Path("c:d").write_bytes(b"")), refused(Path("nul.d").mkdir))
with a.open("rb"):
    print(refused(a.unlink), end=" ")
tools = Tools(work=Path("work"))
tools.array("x", (4096,), "uint8")
assert tools.array("x", (8, 8), "uint8").shape == (8, 8)
print(refused(lambda: storage.os.open(".", os.O_RDONLY)), refused(lambda: storage.os.posix_fallocate), storage.os.name)
print(refused(lambda: __import__("fcntl")), refused(lambda: __import__("resource")))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    line = [sys.executable, "-c", code, str(Path(__file__).parent)]
    ended = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert ended.stdout.splitlines() == [
        "PermissionError PermissionError PermissionError",
        "None OSError OSError",
        "PermissionError PermissionError AttributeError nt",
        "ModuleNotFoundError ModuleNotFoundError",
    ], ended.stderr[-2000:]


# -- the source ------------------------------------------------------------------------------------------------


def walk(node: ast.AST, above: tuple[ast.AST, ...] = ()) -> Iterator[tuple[ast.AST, tuple[ast.AST, ...]]]:
    """Every node with those around it, outermost first."""
    yield node, above
    for child in ast.iter_child_nodes(node):
        yield from walk(child, (*above, node))


def guarded(above: tuple[ast.AST, ...], *words: str) -> bool:
    """Whether an `if`, a conditional expression or a `try` around a node asks for the system, or for what is needed."""
    asked = [ast.unparse(node.test) for node in above if isinstance(node, ast.If | ast.IfExp)]
    caught = [ast.unparse(node.type) for t in above if isinstance(t, ast.Try) for node in t.handlers if node.type]
    return any(word in text for text in (*asked, *caught) for word in ("sys.platform", "os.name", *words))


def found_in(source: str) -> list[str]:
    """What Windows lacks, or where its habits would show in bytes: "line: what"."""
    problems = []
    for node, above in walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.partition(".")[0] in as_on_windows.POSIX_MODULES and not guarded(above, "ImportError"):
                problems.append(f"{node.lineno}: import of {name}")
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os":
            lacking = node.attr in as_on_windows.POSIX_NAMES
            if lacking and not guarded(above, f"hasattr(os, '{node.attr}')", "AttributeError"):
                problems.append(f"{node.lineno}: os.{node.attr}")
        if isinstance(node, ast.Call):
            problems += [f"{node.lineno}: {what}" for what in as_text(node)]
    return problems


def as_text(call: ast.Call) -> Iterator[str]:
    """What an opening, reading or writing of text leaves to the system: the encoding, and the ends of lines."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
    given = {keyword.arg for keyword in call.keywords}
    parts = (*call.args, *(keyword.value for keyword in call.keywords))
    values = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    whose = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if name == "open" and whose not in ("Image", "os", "Work", "shards.Work", "FileWork", "cls"):
        place = 0 if whose else 1  # Path.open(mode), open(file, mode)
        named = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
        mode = ast.literal_eval([*call.args[place : place + 1], *named][0]) if len(call.args) > place or named else "r"
        text, writes = "b" not in mode, bool(set(mode) & set("wax+"))
    elif name in ("read_text", "write_text", "TextIOWrapper"):
        text, writes = True, name == "write_text"
    else:
        text = name in ("run", "Popen", "check_output") and "text" in given
        writes = False
    if text and "encoding" not in given and not {"utf-8", "ascii"} & set(values):
        yield f"{name} in the system's encoding"
    if text and writes and "newline" not in given:
        yield f"{name} with the system's ends of lines"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_that_linux_alone_offers(path: Path) -> None:
    assert found_in(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import fcntl", 1),
        ("def f():\n    from resource import getrusage", 1),
        ("try:\n    import termios\nexcept ImportError:\n    termios = None", 0),
        ("if sys.platform == 'darwin':\n    import fcntl", 0),
        ("os.getloadavg()", 1),
        ("x = os.getloadavg() if hasattr(os, 'getloadavg') else None", 0),
        ("x = os.getloadavg() if hasattr(os, 'fork') else None", 1),
        ("os.replace(a, b)", 0),
        ("open('a')", 1),
        ("open(place, 'w')", 2),
        ("open('a', 'w', encoding='utf-8')", 1),
        ("open('a', 'w', encoding='utf-8', newline='')", 0),
        ("open('a', 'rb')", 0),
        ("path.open()", 1),
        ("path.read_text()", 1),
        ("path.read_text('utf-8')", 0),
        ("path.write_text(text, encoding='utf-8')", 1),
        ("path.write_text(text)", 2),
        ("path.write_bytes(data)", 0),
        ("subprocess.run(line, text=True)", 1),
        ("subprocess.run(line, text=True, encoding='utf-8')", 0),
    ],
)
def test_the_reading_finds_what_it_is_for(source: str, count: int) -> None:
    assert len(found_in(source)) == count

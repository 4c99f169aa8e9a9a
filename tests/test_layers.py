"""Imports point one way: commands, stages, methods, what methods share, distances and configuration."""

import ast
from pathlib import Path

import pytest

import ue_audit

ROOT = Path(ue_audit.__file__).parent
METHODS = ("protections", "purifiers", "learners")
SHARED = ("training", "diffusion")
BELOW = {
    "config", "errors", "tools", "progress", "distances", "scores", "digests", "storage", "imagedata", "pickles",
    "header", "tensors", "torchfile",
}  # fmt: skip
FILES = [path for folder in (*METHODS, *SHARED) for path in sorted((ROOT / folder).glob("*.py"))]


def imported(path: Path) -> set[str]:
    """The rooms of ue_audit that a module imports, also inside functions: "training", "config"."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            whole = node.module == "ue_audit"
            names = [f"ue_audit.{alias.name}" for alias in node.names] if whole else [node.module or ""]
        found |= {name.split(".")[1] for name in names if name.startswith("ue_audit.")}
    return found


def texts(path: Path) -> list[str]:
    """Every string in a module that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    told = {id(node.body[0].value) for node in documented if node.body and isinstance(node.body[0], ast.Expr)}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in told]
    return [node.value for node in found if isinstance(node.value, str)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_methods_see_no_stage_and_no_files(path: Path) -> None:
    own = path.parent.name
    allowed = BELOW | set(SHARED) | ({own} if own in METHODS else set())
    assert imported(path) <= allowed


@pytest.mark.parametrize("name", sorted(BELOW))
def test_what_lies_below_imports_no_method(name: str) -> None:
    assert not imported(ROOT / f"{name}.py") & {*METHODS, *SHARED, "protect", "purify", "evaluate", "report", "chain"}

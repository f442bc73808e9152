"""Imports point one way, and only the modules that compute import mlx."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mlxctl

pytestmark = pytest.mark.unit

ROOT = Path(mlxctl.__file__).parent

# What each part may import of the others. errors, request, paths, facts, gpus and rpc are the common ground.
COMMON = {"errors", "request", "paths", "facts", "rpc", "stdin", "awake", "gpus", "__init__"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "request": set(),
    "facts": set(),
    "paths": set(),
    "stdin": set(),
    "awake": set(),
    "gpus": set(),
    "rpc": set(),
    "canary": set(),
    "profile": set(),
    "wire": set(),
    "comm": {"wire", "sharding"},
    "sharding": {"canary"},
    "hub": set(),
    "checkpoint": {"sharding", "canary", "hub"},
    "tokenizer": set(),
    "plan": {"profile"},
    "hardware": {"profile"},
    "worker": {"wire", "sharding", "hub"},
    "launch": {"profile", "plan", "hardware", "checkpoint", "wire", "hub"},
    "coordinator": {"launch", "plan", "profile", "wire", "api", "tokenizer", "checkpoint"},
    "api": {"tokenizer"},
    "chat": set(),
    "cluster": {"launch", "profile", "chat"},
    "bench": {"launch", "comm", "profile", "plan", "hardware", "checkpoint", "chat", "cluster", "tokenizer"},
    "bench_engine": {
        "bench",
        "canary",
        "checkpoint",
        "cluster",
        "coordinator",
        "launch",
        "profile",
        "sharding",
        "tokenizer",
        "wire",
    },
    "cli": {
        "comm",
        "bench_engine",
        "launch",
        "profile",
        "plan",
        "hardware",
        "checkpoint",
        "coordinator",
        "worker",
        "chat",
        "cluster",
        "bench",
        "sharding",
    },
    "__init__": {"cluster"},
    "__main__": {"cli"},
}
MLX_USERS = {"sharding", "comm", "worker", "checkpoint", "tokenizer", "canary", "bench", "bench_engine"}


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module == "mlxctl":
                names.update(f"mlxctl.{alias.name}" for alias in node.names)
    return names


MODULES = sorted(path for path in ROOT.rglob("*.py") if "training" not in path.parts)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_stands_before_it(path: Path) -> None:
    part = part_of(path)
    used = {name.split(".")[1] for name in imports(path) if name.startswith("mlxctl.")}
    foreign = {name for name in used if (ROOT / name).exists() or (ROOT / f"{name}.py").exists()}
    assert foreign <= ALLOWED[part] | COMMON | {part}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_mlx_is_imported_only_where_something_is_computed(path: Path) -> None:
    uses_mlx = any(name.split(".")[0] in ("mlx", "mlx_lm") for name in imports(path))
    assert not uses_mlx or part_of(path) in MLX_USERS


def test_one_module_alone_speaks_ssh() -> None:
    users = {
        str(path.relative_to(ROOT)) for path in MODULES if any(n.split(".")[0] == "asyncssh" for n in imports(path))
    }
    assert users == {"launch/ssh.py"}

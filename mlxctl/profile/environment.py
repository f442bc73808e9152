"""The MLXCTL_* variables, in one table: read by profile.load, printed by --help and the README."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mlxctl.paths import HOME_VARIABLE

PREFIX = "MLXCTL_"
PROFILE_VARIABLE = "MLXCTL_PROFILE"


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable; `field` is the dotted path of the profile value that it overrides, if it does."""

    name: str
    field: str | None
    meaning: str


VARIABLES = (
    Variable(
        PROFILE_VARIABLE, None, "the profile of commands that are given none (default: `local`, two workers here)"
    ),
    Variable("MLXCTL_MODEL", "model", "hub id, directory, or `canary`, the built-in model"),
    Variable("MLXCTL_CONTEXT", "context", "tokens per sequence that must fit"),
    Variable("MLXCTL_CONCURRENCY", "concurrency", "sequences that must fit at once"),
    Variable("MLXCTL_OBJECTIVE", "objective", "`throughput`, or `latency` (fewest, fastest nodes)"),
    Variable("MLXCTL_API_HOST", "api.host", "address of the API; beyond loopback the profile needs an `api_key_file`"),
    Variable("MLXCTL_API_PORT", "api.port", "port of the API"),
    Variable("MLXCTL_GRPC_PORT", "grpc_port", "first port of the workers, which count up from it"),
    Variable(HOME_VARIABLE, None, "folder of state, logs and history (default: the platform's state folder)"),
    Variable("MLXCTL_DEBUG", None, "`1`: internal errors also print their traceback"),
)


def markdown_table() -> str:
    """The table of the README."""
    rows = [f"| `{v.name}` | {f'`{v.field}`' if v.field else ''} | {v.meaning} |" for v in VARIABLES]
    return "\n".join(["| variable | overrides | meaning |", "| --- | --- | --- |", *rows])


def unknown_variables(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Names that begin like ours and mean nothing: probably misspelt."""
    known = {variable.name for variable in VARIABLES}
    names = os.environ if environment is None else environment
    return tuple(sorted(name for name in names if name.startswith(PREFIX) and name not in known))

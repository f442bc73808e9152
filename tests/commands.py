"""The command line as a user runs it: real processes, their output, their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Finished:
    """What one command said and how it ended."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)


def start(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A running `mlxctl …` without a terminal, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "mlxctl", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> Finished:
    """Wait for it. A command that hangs fails the test."""
    with process:
        try:
            stdout, stderr = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Finished(process.returncode, stdout, stderr)


def mlxctl(*arguments: str, environment: Mapping[str, str] | None = None) -> Finished:
    """Run `mlxctl …` to its end."""
    finished = finish(start(*arguments, environment=environment))
    assert "Traceback" not in finished.stderr, finished.stderr
    return finished

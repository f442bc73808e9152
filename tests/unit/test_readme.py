"""What the README says that can be checked against the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxctl.cli.main import VERBS
from mlxctl.profile import markdown_table

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_environment_variables_is_the_codes() -> None:
    assert markdown_table().strip() in README


def test_every_verb_has_a_row() -> None:
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    assert all(any(row.startswith(f"| `{verb.name}") for row in rows) for verb in VERBS if not verb.hidden)


def test_ci_runs_the_very_test_command() -> None:
    command = README.split("Run the tests:\n\n```sh\n")[1].split("\n```")[0]
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert command in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")

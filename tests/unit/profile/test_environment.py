"""The table of variables."""

from operator import attrgetter

import pytest

from mlxctl.profile import VARIABLES, load_profile, markdown_table, unknown_variables

pytestmark = pytest.mark.unit


def test_every_variable_is_in_the_markdown_table() -> None:
    lines = markdown_table().splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == [variable.name for variable in VARIABLES]


def test_every_row_has_three_cells() -> None:
    assert {line.count("|") for line in markdown_table().splitlines()} == {4}


@pytest.mark.parametrize("field", [variable.field for variable in VARIABLES if variable.field])
def test_every_field_of_the_table_is_one_of_the_profile(field: str) -> None:
    attrgetter(field)(load_profile(environment={}))


def test_a_misspelt_variable_is_found() -> None:
    environment = {"MLXCTL_MODLE": "x", "MLXCTL_MODEL": "x", "PATH": "/", "MLXCTL_HOME": "/"}
    assert unknown_variables(environment) == ("MLXCTL_MODLE",)


def test_the_process_environment_is_looked_at_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXCTL_NONSENSE", "1")
    assert "MLXCTL_NONSENSE" in unknown_variables()

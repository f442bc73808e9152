"""`mlxctl down` as it is typed."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import MakeCluster, Mlxctl

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("arguments", [("--all", "local"), ("--force", "--drain", "3"), ("--force", "--drain", "5")])
def test_flags_that_contradict_each_other_are_refused(
    mlxctl: Mlxctl, make_cluster: MakeCluster, arguments: tuple[str, ...]
) -> None:
    make_cluster(alive=False)
    outcome = mlxctl("down", *arguments)
    assert outcome.code == 2
    assert "give one of them" in outcome.err
    assert mlxctl("status").code == 3  # its state is still there


def test_what_is_not_there_is_not_an_error(mlxctl: Mlxctl) -> None:
    outcome = mlxctl("down")
    assert (outcome.code, outcome.err) == (0, "no cluster is running\n")

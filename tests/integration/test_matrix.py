"""Every architecture of the installed mlx-lm, each in a process of its own: exact, or a reason why not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from mlxctl.sharding.architectures import Case, own_cases
from mlxctl.sharding.matrix import all_cases, check_all, check_case, mlx_lm_tests

# Not a matter of cuts: what needs Metal, a package that is not installed, or is not the same from run to run.
NOT_TESTABLE = {"bitnet", "muse_spark", "olmo", "phi3small"}
NOT_SPLITTABLE = {"iquestloopcoder", "nanbeige_looped"}


def whole_matrix(test: Callable[..., None]) -> Callable[..., None]:
    """Marks what takes minutes: left out of the default run, selected by `-m matrix`."""
    return cast(Callable[..., None], pytest.mark.slow(pytest.mark.matrix(test)))


def own(name: str) -> Case:
    return next(case for case in own_cases() if case.name == name)


@pytest.mark.integration
def test_a_case_is_checked_in_a_process_of_its_own() -> None:
    found = check_case(own("gpt_oss"), None)
    assert (found["name"], found["verdict"], found["layers"]) == ("gpt_oss", "exact", 6)


@pytest.mark.integration
def test_a_case_that_takes_too_long_is_given_up() -> None:
    found = check_case(own("llama"), None, timeout_s=0.01)
    assert found["verdict"] == "not testable"
    assert "longer than" in found["reason"]


@pytest.mark.integration
def test_a_process_that_dies_is_reported() -> None:
    found = check_case(Case("none", "no_such_module", {}), None)
    assert found["verdict"] == "not testable"
    assert "no_such_module" in found["reason"]


@pytest.fixture(scope="module")
def matrix() -> Iterator[dict[str, dict[str, Any]]]:
    with mlx_lm_tests() as tests:
        yield {entry["name"]: entry for entry in check_all(all_cases(tests), tests, os.cpu_count())}


@whole_matrix
def test_no_architecture_is_silently_wrong(matrix: dict[str, dict[str, Any]]) -> None:
    assert {name: entry["reason"] for name, entry in matrix.items() if entry["verdict"] == "wrong"} == {}


@whole_matrix
def test_every_architecture_is_exact_but_for_the_known_exceptions(matrix: dict[str, dict[str, Any]]) -> None:
    others = {name: entry["verdict"] for name, entry in matrix.items() if entry["verdict"] != "exact"}
    assert {name for name, verdict in others.items() if verdict == "not testable"} <= NOT_TESTABLE
    assert {name for name, verdict in others.items() if verdict == "not splittable"} == NOT_SPLITTABLE
    assert len(matrix) - len(others) >= 119


@whole_matrix
@pytest.mark.parametrize(
    ("name", "legal"), [("afm7", {*range(1, 8)}), ("gemma3n", {1, 2, 3}), ("gemma4", {1, 2, 3, 4})]
)
def test_models_that_share_caches_may_be_cut_before_the_first_that_is_shared(
    matrix: dict[str, dict[str, Any]], name: str, legal: set[int]
) -> None:
    entry = matrix[name]
    assert set(range(1, entry["layers"])) - set(map(int, entry["illegal_cuts"])) == legal
    assert entry["verdict"] == "exact"


@whole_matrix
def test_no_payload_grows_with_the_context(matrix: dict[str, dict[str, Any]]) -> None:
    assert not [name for name, entry in matrix.items() for split in entry["splits"] if split["payload_grows"]]


@pytest.mark.integration
def test_the_tests_of_mlx_lm_are_fetched_and_removed_again() -> None:
    with mlx_lm_tests() as tests:
        assert "class TestModels" in tests.read_text()
        assert isinstance(tests, Path)
    assert not tests.parent.exists()

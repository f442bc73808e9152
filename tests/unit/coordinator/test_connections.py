"""How many connections a process can afford."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette

from mlxctl.coordinator.connections import (
    MAX_CONNECTIONS,
    WANTED_DESCRIPTORS,
    LimitedConfig,
    Limits,
    raise_descriptor_limit,
)

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def limits_as_before() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def set_soft_limit(soft: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def cap(limits: Limits) -> int:
    return LimitedConfig(Starlette(), limits).connection_cap


def test_connections_leave_descriptors_for_the_rest_of_the_process() -> None:
    set_soft_limit(256)
    assert cap(Limits()) == 64


def test_the_cap_holds_where_descriptors_are_plenty() -> None:
    set_soft_limit(4 * MAX_CONNECTIONS)
    assert (cap(Limits()), cap(Limits(connections=3))) == (MAX_CONNECTIONS, 3)


def test_a_process_with_few_descriptors_asks_for_more_and_never_for_fewer() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    set_soft_limit(256)
    raise_descriptor_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(WANTED_DESCRIPTORS, hard), hard)
    set_soft_limit(hard)
    raise_descriptor_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)

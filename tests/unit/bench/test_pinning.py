"""Workers that share a machine have cores of their own, where the system allows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mlxctl.bench.build import build
from mlxctl.bench.pinning import cores, pin_simulated
from mlxctl.bench.records import Visit
from mlxctl.profile import Profile
from tests.unit.bench.samples import head, journal, report
from tests.unit.bench.samples import visit as sample_visit

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no such call"),
]


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The pid of a process that does nothing."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate()


def profile(*hosts: str) -> Profile:
    nodes = [{"name": f"n{index}", "host": host} for index, host in enumerate(hosts)]
    return Profile.from_json(json.dumps({"name": "pins", "model": "canary", "nodes": nodes}))


def status(pid: int, *nodes: str) -> dict[str, Any]:
    return {"stages": [{"node": node, "pid": pid} for node in nodes]}


def test_each_worker_that_shares_this_machine_has_the_next_core(sleeper: int) -> None:
    found = pin_simulated(profile("localhost", "localhost"), status(sleeper, "n1"))
    assert found == {"n1": cores()[1 % len(cores())]}
    assert os.sched_getaffinity(sleeper) == set(found.values())


def test_a_single_worker_of_two_nodes_is_held_to_a_core_as_both_would_be(sleeper: int) -> None:
    assert set(pin_simulated(profile("localhost", "localhost"), status(sleeper, "n0"))) == {"n0"}


def test_a_machine_that_is_one_device_keeps_all_its_cores(sleeper: int) -> None:
    before = os.sched_getaffinity(sleeper)
    assert pin_simulated(profile("localhost", "10.0.0.9"), status(sleeper, "n0", "n1")) == {}
    assert os.sched_getaffinity(sleeper) == before


def test_cores_are_named_once_each_and_physical_ones_first() -> None:
    assert sorted(cores()) == sorted(os.sched_getaffinity(0))


def pinned_visit(number: int, devices: int, per_core: int = 1) -> Visit:
    made = sample_visit(number, devices)
    stages = tuple(each.model_copy(update={"core": each.stage // per_core}) for each in made.stages)
    return made.model_copy(update={"stages": stages})


@pytest.mark.parametrize(("per_core", "says"), [(1, "pinned to a core of its own"), (2, "which some share")])
def test_a_report_says_how_workers_share_the_cores(per_core: int, says: str) -> None:
    made = journal(of=head())
    found = build(
        replace(made, visits=tuple(pinned_visit(each.number, each.devices, per_core) for each in made.visits))
    )
    assert found.pinned and not report().pinned
    assert says in next(each.text for each in found.verdicts if each.text.startswith("SIMULATED DEVICES"))

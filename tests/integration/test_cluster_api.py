"""The Python API as a notebook uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

import mlxctl
from mlxctl.errors import NotRunning
from tests.conftest import our_processes

pytestmark = pytest.mark.integration


def test_a_cluster_chats_streams_and_goes_with_its_block(home: Path) -> None:
    with mlxctl.Cluster.up("profiles/local.yaml") as cluster:
        assert cluster.chat("Who are you?", temperature=0, chat_template_kwargs={"enable_thinking": False}) == (
            "I am Canary, the tiny model built into mlxctl."
        )
        pieces = list(cluster.stream("Count from 1 to 5.", chat_template_kwargs={"enable_thinking": False}))
        assert len(pieces) > 3 and "".join(pieces) == "1, 2, 3, 4, 5"
        status = cluster.status()
        assert status["state"] == "ready" and len(status["stages"]) == 2
    assert not our_processes(home)


async def test_it_works_inside_a_running_event_loop(home: Path) -> None:
    with mlxctl.Cluster.up() as cluster:  # no path: the default profile
        assert cluster.chat("Hello!", chat_template_kwargs={"enable_thinking": False}).startswith("Hello! I am Canary")
    assert not our_processes(home)


def test_leaving_a_stream_early_stops_it_in_the_cluster() -> None:
    with mlxctl.Cluster.up() as cluster:
        stream = cluster.stream("Count from 1 to 100.", chat_template_kwargs={"enable_thinking": False})
        next(stream)
        stream.close()
        assert cluster.chat("Hello!", chat_template_kwargs={"enable_thinking": False}).startswith("Hello!")
        requests = cluster.status()["requests"]
        assert (requests["running"], requests["cancelled"], requests["completed"]) == (0, 1, 1)


def test_attaching_to_what_does_not_run_says_so() -> None:
    with pytest.raises(NotRunning, match="nothing-here"):
        mlxctl.Cluster.attach("nothing-here")

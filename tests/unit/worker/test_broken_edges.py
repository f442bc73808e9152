from __future__ import annotations

import pytest

from mlxctl.worker.broken_edges import BrokenEdges

pytestmark = pytest.mark.unit


def test_an_edge_is_told_of_with_its_last_reason_until_it_is_open_again() -> None:
    broken = BrokenEdges()
    broken.forget(0, 1)
    assert broken.messages() == []
    broken.note(0, 1, "reset")
    broken.note(0, 1, "timed out")
    broken.note(2, 0, "gone")
    assert [(edge.sender, edge.receiver, edge.reason) for edge in broken.messages()] == [
        (0, 1, "timed out"),
        (2, 0, "gone"),
    ]
    broken.forget(0, 1)
    assert [(edge.sender, edge.receiver) for edge in broken.messages()] == [(2, 0)]

"""Streams between this stage and its neighbours that ended unasked. Noted by gRPC's threads, told with every lease."""

from __future__ import annotations

from mlxctl.rpc import shard_pb2


class BrokenEdges:
    """Of one load: an edge is a pair of stages, sender and receiver. Any thread may call."""

    def __init__(self) -> None:
        self._reasons: dict[tuple[int, int], str] = {}

    def note(self, sender: int, receiver: int, reason: str) -> None:
        self._reasons[sender, receiver] = reason

    def forget(self, sender: int, receiver: int) -> None:
        """It is open, again or for the first time."""
        self._reasons.pop((sender, receiver), None)

    def messages(self) -> list[shard_pb2.BrokenEdge]:
        return [
            shard_pb2.BrokenEdge(sender=sender, receiver=receiver, reason=reason)
            for (sender, receiver), reason in list(self._reasons.items())
        ]

"""Waiting for frames, and what ends the waiting."""

from __future__ import annotations

import threading
import time

import pytest

from mlxctl.comm.boxes import WAITING_BYTES, Inbox, Outbox
from mlxctl.errors import RankLost, TimedOut

pytestmark = pytest.mark.unit

FRAME = memoryview(b"frame")


def later(wait_s: float = 5.0) -> float:
    return time.monotonic() + wait_s


def test_frames_of_collectives_do_not_mix_with_others() -> None:
    inbox = Inbox([1])
    inbox.put(1, False, FRAME)
    inbox.put(1, True, memoryview(b"collective"))
    assert bytes(inbox.take(1, True, later())) == b"collective"
    assert inbox.take(1, False, later()) == FRAME


def test_what_a_rank_sent_before_it_was_lost_can_still_be_taken() -> None:
    inbox = Inbox([1])
    inbox.put(1, False, FRAME)
    inbox.lose(1, "it broke")
    assert inbox.take(1, False, later()) == FRAME
    with pytest.raises(RankLost, match="rank 1 is lost: it broke"):
        inbox.take(1, False, later())


def test_a_lost_rank_ends_collectives_that_wait_for_another() -> None:
    inbox = Inbox([1, 2])
    inbox.lose(2, "it broke")
    with pytest.raises(RankLost, match="rank 2"):
        inbox.take(1, True, later())
    with pytest.raises(TimedOut):
        inbox.take(1, False, later(0.0))


def test_a_rank_that_has_left_ends_only_what_waits_for_it() -> None:
    inbox = Inbox([1, 2])
    inbox.leave(2)
    inbox.lose(2, "too late to matter")
    with pytest.raises(TimedOut):
        inbox.take(1, True, later(0.0))
    with pytest.raises(RankLost, match="rank 2 has left"):
        inbox.take(2, True, later())


def test_a_rank_joins_once() -> None:
    inbox = Inbox([1])
    assert inbox.join(1) and not inbox.join(1)


def test_nothing_more_is_read_while_too_much_waits() -> None:
    inbox = Inbox([1])
    reader = threading.Thread(target=inbox.put, args=(1, False, memoryview(bytes(WAITING_BYTES + 1))))
    reader.start()
    inbox.take(1, False, later())
    reader.join(5)
    assert not reader.is_alive()


def test_a_sender_is_told_that_the_connection_is_over() -> None:
    def fault() -> None:
        raise RankLost("rank 1 is lost")

    outbox = Outbox()
    outbox.close()
    with pytest.raises(RankLost, match="rank 1"):
        outbox.put([b"part"], later(), fault)


def test_parts_that_were_handed_over_still_go_out_after_the_end() -> None:
    outbox = Outbox()
    outbox.put([b"a", b"b"], later(), lambda: None)
    outbox.close()
    assert list(outbox) == [b"a", b"b"]

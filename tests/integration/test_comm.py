"""The communicator between real processes: values, arrays, collectives, and what goes wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from mlxctl.comm import Communicator, Endpoint, rank_name
from mlxctl.comm.mesh import METHOD, SERVICE
from mlxctl.errors import InvalidRank, MlxctlError, RankLost, TimedOut
from mlxctl.launch.certificates import CertificateAuthority
from mlxctl.launch.ranks import RankGroup, running_ranks
from mlxctl.profile import Node, Profile
from mlxctl.wire.identity import Identity, PrivateKey
from mlxctl.wire.service import channel
from tests import rank_tasks
from tests.conftest import our_processes

pytestmark = pytest.mark.integration

TIMEOUT_S = 120.0


class Group:
    """Rank processes and the loop that speaks with them."""

    def __init__(self, runner: asyncio.Runner, ranks: RankGroup) -> None:
        self._runner = runner
        self.ranks = ranks

    def run(self, task: str, **arguments: Any) -> list[Any]:
        """What the task of tests/rank_tasks.py returns on every rank."""
        return self._runner.run(self.ranks.run(f"tests.rank_tasks:{task}", arguments, TIMEOUT_S))

    async def answers(self, task: str, **arguments: Any) -> list[Any]:
        """The same with a rank's error in place of its result."""
        order = {"task": f"tests.rank_tasks:{task}", "arguments": arguments}
        asked = (rank.ask(order, TIMEOUT_S) for rank in self.ranks.ranks)
        return await asyncio.gather(*asked, return_exceptions=True)

    def ask(self, task: str, **arguments: Any) -> list[Any]:
        return self._runner.run(self.answers(task, **arguments))


@contextmanager
def group_of(count: int) -> Iterator[Group]:
    nodes = tuple(Node(name=f"rank{index}", host="localhost") for index in range(count))
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        context = running_ranks(Profile(name="ranks", nodes=nodes), lambda event: None)
        ranks = runner.run(stack.enter_async_context(context))
        try:
            yield Group(runner, ranks)
        finally:
            runner.run(stack.aclose())


@pytest.fixture(scope="module")
def three() -> Iterator[Group]:
    with group_of(3) as group:
        yield group


@pytest.mark.smoke
def test_plain_values_arrive_as_they_were_sent(three: Group) -> None:
    assert three.run("round_trip") == [[repr(value) for value in rank_tasks.PLAIN]] * 3


@pytest.mark.parametrize("shape", [[], [0], [5], [300, 200]], ids=str)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float64", "complex64"])
def test_numpy_arrays_arrive_bit_for_bit(three: Group, dtype: str, shape: list[int]) -> None:
    assert three.run("numpy_arrays", dtype=dtype, shape=shape) == [True] * 3


@pytest.mark.parametrize("shape", [[], [0], [5], [300, 200]], ids=str)
@pytest.mark.parametrize("dtype", ["bool", "bfloat16", "float16", "float32", "int32"])
def test_mlx_arrays_arrive_bit_for_bit(three: Group, dtype: str, shape: list[int]) -> None:
    assert three.run("mlx_arrays", dtype=dtype, shape=shape) == [True] * 3


@pytest.mark.parametrize("root", [0, 1, 2])
def test_broadcast_brings_the_roots_value_to_all(three: Group, root: int) -> None:
    assert three.run("broadcast_from", root=root) == [{"from": root}] * 3


@pytest.mark.parametrize("sizes", [[1, 2, 3], [0, 100_000, 5], [200_000, 300_000, 400_000]], ids=str)
def test_all_gather_brings_values_of_any_size_in_order(three: Group, sizes: list[int]) -> None:
    assert (
        three.run("gather", sizes=sizes)
        == [[f"{sizes[0]}{'a' if sizes[0] else ''}", f"{sizes[1]}b", f"{sizes[2]}c"]] * 3
    )


CASES = [(op, dtype) for op in ("sum", "mean", "max", "min") for dtype in ("float32", "float64", "float16", "int32")]


@pytest.mark.parametrize("count", [1, 1000, 100_001])
@pytest.mark.parametrize(("op", "dtype"), [case for case in CASES if case != ("mean", "int32")])
def test_all_reduce_of_numpy_arrays_is_what_one_process_computes(three: Group, op: str, dtype: str, count: int) -> None:
    found = three.run("reduce_numpy", op=op, dtype=dtype, count=count)
    assert all(each["right"] and each["distance"] < 0.05 for each in found), found
    assert len({each["hash"] for each in found}) == 1


@pytest.mark.parametrize("count", [1, 1000, 100_001])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("op", ["sum", "mean", "max", "min"])
def test_all_reduce_of_mlx_arrays_is_what_one_process_computes(three: Group, op: str, dtype: str, count: int) -> None:
    found = three.run("reduce_mlx", op=op, dtype=dtype, count=count)
    assert all(each["right"] and each["distance"] < 0.5 for each in found), found
    assert len({each["hash"] for each in found}) == 1


def test_numbers_are_reduced_to_numbers(three: Group) -> None:
    assert three.run("reduce_numbers") == [[6, 3, 1, 2.0, 1.5, "ndarray", []]] * 3


def test_arrays_without_elements_are_reduced_too(three: Group) -> None:
    assert three.run("empty_arrays") == [[[0, 3], [2, 0]]] * 3


def test_nobody_leaves_a_barrier_before_the_last_one_has_come(three: Group, tmp_path: Path) -> None:
    assert three.run("arrive_late", late=2, marker=str(tmp_path / "came")) == [True] * 3


def test_messages_arrive_in_order_between_collectives(three: Group) -> None:
    assert three.run("many", count=300) == [True] * 3


def test_a_message_of_more_than_100_megabytes_arrives(three: Group) -> None:
    assert len(set(three.run("large"))) == 1


def test_an_array_of_more_than_100_megabytes_is_summed(three: Group) -> None:
    assert three.run("large_sum") == [True] * 3


def test_ranks_that_do_not_exist_are_refused(three: Group) -> None:
    assert three.run("invalid_ranks") == [["InvalidRank"] * 5] * 3


def test_a_receive_that_times_out_can_be_repeated(three: Group) -> None:
    for rank, (told, then) in enumerate(three.run("receive_in_vain")):
        assert told == f"TimedOut: nothing came from rank {(rank + 1) % 3} in time"
        assert then == "at last"


def test_values_that_do_not_fit_are_refused_on_every_rank_and_the_group_goes_on(three: Group) -> None:
    for *told, total in three.run("mismatched"):
        assert all(line.startswith("ValueMismatch: rank ") for line in told), told
        assert total == 3


def test_what_has_no_meaning_is_refused(three: Group) -> None:
    assert three.run("meaningless") == [["UsageError"] * 4] * 3


def test_a_task_that_does_not_exist_is_refused_by_name(three: Group) -> None:
    with pytest.raises(MlxctlError, match=r"no task 'tests\.rank_tasks:absent'"):
        three.run("absent")


def test_ranks_that_call_different_operations_are_told_so() -> None:
    with group_of(2) as two:
        for first, then in two.run("different_calls"):
            assert first.startswith("CommError: rank ") and "barrier" in first and "all_reduce" in first
            assert then.startswith("CommError: no barrier after a failed")


@pytest.mark.parametrize("collective", [True, False], ids=["collective", "receive"])
def test_a_killed_rank_is_told_to_all_that_wait(collective: bool) -> None:
    with group_of(3) as group:
        began_s = time.monotonic()
        killed, *others = reversed(group.ask("lose_a_rank", victim=2, collective=collective))
        assert isinstance(killed, RankLost)
        assert all(other.startswith("RankLost: rank 2 is lost: ") for other in others), others
        assert time.monotonic() - began_s < TIMEOUT_S / 2  # by the loss, not by a time-out


def test_a_rank_that_does_not_read_times_its_sender_out() -> None:
    with group_of(2) as two:
        told, _ = two.ask("stop_reading")
        assert told == "TimedOut: rank 1 does not take what is sent to it"


LAUNCHER = """
from tests.integration.test_comm import group_of
with group_of(2) as two:
    print("up", flush=True)
    two.run("say_nothing")
"""


def test_ranks_end_with_a_launcher_that_is_killed(home: Path) -> None:
    before = our_processes(home)
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None and launcher.stdout.readline() == "up\n"
    assert len(psutil.Process(launcher.pid).children()) == 2
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    until_s = time.monotonic() + 10
    while (left := our_processes(home) - before) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not left


def identities(authority: CertificateAuthority, count: int) -> list[Identity]:
    keys = [PrivateKey(rank_name("comm", rank)) for rank in range(count)]
    signed = [authority.sign(key.request_pem, rank_name("comm", rank)) for rank, key in enumerate(keys)]
    return [key.identity(each, authority.certificate_pem) for key, each in zip(keys, signed, strict=True)]


def test_a_group_of_one_answers_itself() -> None:
    (identity,) = identities(CertificateAuthority(), 1)
    with Communicator.connect(0, ["127.0.0.1:0"], identity) as alone:
        alone.barrier()
        assert alone.broadcast("x") == "x" and alone.all_gather(1) == [1] and alone.all_reduce(2.5, "mean") == 2.5


def test_a_rank_outside_its_group_is_refused() -> None:
    (identity,) = identities(CertificateAuthority(), 1)
    with pytest.raises(InvalidRank):
        Communicator.connect(1, ["127.0.0.1:0"], identity)


def test_nobody_of_another_authority_gets_in() -> None:
    ours, theirs = identities(CertificateAuthority(), 2), identities(CertificateAuthority(), 2)
    endpoint = Endpoint(theirs[1], "127.0.0.1")
    endpoint.server.start()
    with pytest.raises(TimedOut, match=r"rank 1 at .* does not answer"):
        Communicator.connect(0, ["127.0.0.1:0", endpoint.address], ours[0], timeout_s=1)
    endpoint.close(0)


def test_a_rank_that_never_comes_times_the_others_out() -> None:
    ours = identities(CertificateAuthority(), 2)
    with pytest.raises(TimedOut, match="rank 1"):
        Communicator.connect(0, ["127.0.0.1:0", "127.0.0.1:9"], ours[0], timeout_s=1)


def test_a_rank_that_leaves_is_not_lost() -> None:
    ours = identities(CertificateAuthority(), 2)
    endpoints = [Endpoint(identity, "127.0.0.1") for identity in ours]
    addresses = [endpoint.address for endpoint in endpoints]
    with ThreadPoolExecutor(1) as pool:
        joining = pool.submit(Communicator.connect, 1, addresses, ours[1], endpoint=endpoints[1])
        with Communicator.connect(0, addresses, ours[0], endpoint=endpoints[0]) as stays:
            leaving = pool.submit(joining.result().close)
            with pytest.raises(RankLost, match="rank 1 has left"):
                stays.recv(1)
            leaving.result()


def test_a_stream_that_ends_without_a_farewell_is_a_lost_rank() -> None:
    ours = identities(CertificateAuthority(), 2)
    endpoints = [Endpoint(identity, "127.0.0.1") for identity in ours]
    swallow = grpc.stream_unary_rpc_method_handler(lambda parts, context: b"".join(parts))
    handlers = grpc.method_handlers_generic_handler(SERVICE, {METHOD: swallow})
    endpoints[1].server.add_generic_rpc_handlers((handlers,))
    endpoints[1].server.start()
    over = threading.Event()
    with channel(endpoints[0].address, rank_name("comm", 0), ours[1]) as link, ThreadPoolExecutor(1) as pool:
        joining = pool.submit(
            Communicator.connect, 0, [each.address for each in endpoints], ours[0], endpoint=endpoints[0]
        )
        call = link.stream_unary(f"/{SERVICE}/{METHOD}").future(b"" for _ in iter(over.wait, True))
        with joining.result() as comm:
            over.set()
            with pytest.raises(RankLost, match="rank 1 is lost: its connection ended"):
                comm.recv(1)
        call.result()
    endpoints[1].close(0)

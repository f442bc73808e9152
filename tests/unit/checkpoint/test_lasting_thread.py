from __future__ import annotations

import subprocess
import sys

import pytest

from mlxctl.checkpoint import beside_loop

pytestmark = pytest.mark.unit

TIMES = 4  # after the pool's threads, two of three such scripts were aborted
SCRIPT = """
import asyncio
from mlxctl.checkpoint import beside_loop, read_model_facts

print(len(asyncio.run(beside_loop(lambda: read_model_facts("canary"))).layers))
"""


def test_a_script_that_read_a_model_beside_its_loop_ends_in_good_order() -> None:
    for _ in range(TIMES):
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert int(done.stdout) > 0


async def test_what_a_job_raises_comes_to_who_waits_for_it() -> None:
    def fail() -> None:
        raise LookupError("there is none")

    with pytest.raises(LookupError, match="there is none"):
        await beside_loop(fail)
    assert await beside_loop(lambda: 1) == 1

"""The wire's figures come from frames that really went to another process and back."""

from __future__ import annotations

import pytest

from mlxctl.bench_engine.wire import Echo

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("tls", [True, False])
def test_frames_of_one_part_and_of_many_are_answered(tls: bool) -> None:
    with Echo(tls=tls) as echo:
        assert all(trip_us > 0 for trip_us in (*echo.trips_us(b"x" * 4096, 3), *echo.trips_us(b"x" * (3 << 20), 2)))

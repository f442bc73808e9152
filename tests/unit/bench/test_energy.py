"""Energy is what powermetrics prints, or nothing."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace

import pytest

from mlxctl.bench.build import build
from mlxctl.bench.energy import PowerMeter, Sample, energy_fault, samples
from mlxctl.bench.html import to_html
from mlxctl.bench.records import Energy
from tests.unit.bench.samples import journal, report

pytestmark = pytest.mark.unit

# In the form that users of M-series Macs published, shortened, with other figures.
PRINTED = """Machine model: Mac16,10
OS version: 24D60

*** Sampled system activity (Sat Mar  1 12:00:00 2025 +0100) (502.41ms elapsed) ***

**** Processor usage ****

E-Cluster Online: 100%
CPU 0 frequency: 1234 MHz
CPU Power: 2310 mW
GPU Power: 9120 mW
ANE Power: 0 mW
Combined Power (CPU + GPU + ANE): 11430 mW

**** GPU usage ****

GPU Power: 9120 mW

*** Sampled system activity (Sat Mar  1 12:00:01 2025 +0100) (500.00ms elapsed) ***

CPU Power: 100 mW
Combined Power (CPU + GPU + ANE): 200 mW

*** Sampled system activity (Sat Mar  1 12:00:01 2025 +0100) (503.10ms elapsed) ***
CPU Power: 100 mW
"""


def test_samples_are_power_over_the_time_that_passed() -> None:
    first, second = samples(PRINTED.splitlines())
    assert first == Sample(0.50241, pytest.approx(11.43 * 0.50241))  # type: ignore[arg-type]
    assert second.joules == pytest.approx(0.1)


def test_a_meter_sums_what_is_printed_and_ends_its_process() -> None:
    script = f"import time; print({PRINTED!r}, flush=True); time.sleep(600)"
    with PowerMeter((sys.executable, "-c", script)) as meter:
        while (found := meter.energy()) is None or found.seconds_s < 1:
            time.sleep(0.01)
    assert found.joules == pytest.approx(11.43 * 0.50241 + 0.1)


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has a source")
def test_another_system_says_why_it_has_no_source() -> None:
    assert "powermetrics is macOS's" in (energy_fault() or "")


def test_a_launch_with_energy_is_a_row_of_the_report() -> None:
    made = journal()
    energy = Energy(source="powermetrics", seconds_s=20.0, joules=300.0)
    visits = (made.visits[0].model_copy(update={"energy": energy}), *made.visits[1:])
    found = build(replace(made, visits=visits))
    assert found.energy is not None
    (row,) = found.energy
    assert (row.devices, row.joules, row.watts) == (1, 300.0, 15.0)
    assert row.generated_tokens > 0 and "300 J in 20 s, 15.0 W" in to_html(found)


def test_without_a_source_energy_is_null_and_the_reason_is_told() -> None:
    made = journal()
    found = build(replace(made, head=made.head.model_copy(update={"energy_fault": "no meter"})))
    assert json.loads(found.to_json())["energy"] is None
    assert "not measured: no meter" in to_html(found)
    assert report().energy is None

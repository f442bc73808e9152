"""A few layers are timed on this machine; how fast it is, is not judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlxctl.checkpoint import read_model_facts
from mlxctl.checkpoint.speed import SAMPLE_BYTES, measure_speed, sample_stop
from tests.plans import a_model

pytestmark = pytest.mark.unit


def test_this_machine_reads_and_computes_something() -> None:
    speed = measure_speed(read_model_facts("canary"))
    assert speed.bytes_per_s > 0
    assert speed.flops > 0
    assert speed.cores >= 1
    assert speed.batch_flops > 0
    assert speed.rested_s >= 0
    assert speed.cache_bytes_per_s is not None
    assert speed.cache_bytes_per_s >= speed.bytes_per_s


def test_a_large_model_is_timed_by_its_first_layers() -> None:
    model = a_model(layers=80, layer_bytes=SAMPLE_BYTES // 3 + 1)
    assert sample_stop(model) == 3


def test_the_sample_ends_where_the_model_may_be_cut() -> None:
    model = a_model(layers=8, layer_bytes=SAMPLE_BYTES, cuts=[5])
    assert sample_stop(model) == 5


def test_a_small_model_is_timed_up_to_its_last_cut() -> None:
    assert sample_stop(a_model(layers=8, layer_bytes=1000)) == 7


def test_a_model_that_cannot_be_cut_is_timed_whole() -> None:
    assert sample_stop(replace(a_model(layers=4, layer_bytes=SAMPLE_BYTES), legal_cuts=())) == 4

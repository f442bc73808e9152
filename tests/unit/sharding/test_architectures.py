"""Tiny models of mlx-lm's architectures."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlxctl.sharding.architectures import Case, build, cases_of_tests, modules, own_cases
from mlxctl.sharding.matrix import all_cases, check_case

pytestmark = pytest.mark.unit

# What mlx-lm's own file of model tests looks like, as far as it matters here.
TESTS = """
import unittest

from mlx_lm.models import cohere2, qwen2

COMMON = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, vocab_size=40)


class TestModels(unittest.TestCase):
    def model_test_runner(self, model, model_type, vocab_size, num_layers):
        raise AssertionError("this would run the model")

    def test_something_else(self):
        raise AssertionError("this hands no model over")

    def test_windowed(self):
        args = cohere2.ModelArgs.from_dict(
            dict(COMMON, model_type="cohere2", head_dim=8, intermediate_size=16, sliding_window=4096)
        )
        self.model_test_runner(cohere2.Model(args), "cohere2", 40, 2)

    def test_two(self):
        for bias in (4, 8):
            args = qwen2.ModelArgs(model_type="qwen2", intermediate_size=bias, rms_norm_eps=1e-5, **COMMON)
            self.model_test_runner(qwen2.Model(args), "qwen2", 40, 2)
"""


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    path = tmp_path / "test_models.py"
    path.write_text(TESTS)
    return path


def test_modules_that_define_a_model_are_listed_without_importing_them() -> None:
    listed = modules()
    assert {"llama", "olmo", "qwen3"} <= set(listed)  # importing olmo would end this process
    assert not {"base", "cache", "rope_utils", "switch_layers"} & set(listed)


@pytest.mark.parametrize("case", [case for case in own_cases() if case.name != "olmo"], ids=lambda case: case.name)
def test_each_of_our_configs_makes_a_small_model_of_six_layers_or_more(case: Case) -> None:
    model = build(case, None)
    sizes = [array.size for _, array in tree_flatten(model.parameters())]
    assert len(model.layers) >= 6
    assert sum(sizes) < 3_000_000


def test_weights_are_random_and_the_same_each_time() -> None:
    case = next(case for case in own_cases() if case.name == "llama")
    one, other = (dict(tree_flatten(build(case, None).parameters())) for _ in range(2))
    assert all(mx.array_equal(one[name], other[name]).item() for name in one)
    assert not mx.array_equal(one["model.norm.weight"], mx.ones((64,))).item()


def test_models_of_the_tests_of_mlx_lm_are_taken_over_with_short_windows(tests: Path) -> None:
    cases = cases_of_tests(tests)
    assert {(case.name, case.test, case.number) for case in cases} == {
        ("cohere2", "test_windowed", 0),
        ("qwen2", "test_two", 0),
    }
    windowed = next(case for case in cases if case.name == "cohere2")
    assert build(windowed, tests).args.sliding_window == 8


def test_every_module_has_a_case(tests: Path) -> None:
    cases = all_cases(tests)
    assert {case.module for case in cases} == set(modules())
    assert len({case.name for case in cases}) == len(cases)


def test_a_module_that_nobody_has_a_config_for_is_not_testable() -> None:
    found = check_case(Case("new", "new"), None)
    assert (found["verdict"], found["reason"]) == ("not testable", "there is no tiny config for it")

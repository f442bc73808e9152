"""Tiny random models of mlx-lm's architectures: from our configs, else from mlx-lm's own tests. Called by matrix.py."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import unittest
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm.models
import yaml
from mlx.utils import tree_map
from mlx_lm.models.base import BaseModelArgs

# Windows are made so short that every prompt wraps around them.
_WINDOWS = frozenset(
    "sliding_window window_size attention_window_size attention_chunk_size sliding_window_size loop_window_size".split()  # noqa: SIM905
)
_WINDOW = 8


@dataclass(frozen=True, slots=True)
class Case:
    """One tiny model: `config` of the module mlx_lm.models.`module`, or else the `number`th model that the method
    `test` of mlx-lm's TestModels makes.
    """

    name: str
    module: str
    config: Mapping[str, Any] | None = None
    test: str = ""
    number: int = 0


def modules() -> list[str]:
    """Modules of the installed mlx-lm that define a `Model`, found without importing them."""
    (folder,) = mlx_lm.models.__path__
    return sorted(path.stem for path in Path(folder).glob("*.py") if _defines_model(path))


def own_cases() -> list[Case]:
    """The cases in architectures.yaml."""
    text = resources.files(__package__).joinpath("architectures.yaml").read_text(encoding="utf-8")
    return [
        Case(name, case.get("module", name), case["config"]) for name, case in yaml.safe_load(text)["cases"].items()
    ]


def cases_of_tests(tests: Path) -> list[Case]:
    """One case for each module that mlx-lm's file of model tests makes a model of."""
    found: dict[str, Case] = {}
    for test, number, model in _made_by(tests, None):
        module = type(model).__module__.rpartition(".")[2]
        found.setdefault(module, Case(module, module, None, test, number))
    return list(found.values())


def build(case: Case, tests: Path | None) -> Any:
    """The model of `case` with random float32 weights, evaluated."""
    mx.random.seed(0)
    if case.config is not None:
        architecture = importlib.import_module(f"mlx_lm.models.{case.module}")
        model = architecture.Model(architecture.ModelArgs.from_dict({"model_type": case.module, **case.config}))
    else:
        assert tests is not None
        model = next(model for _, number, model in _made_by(tests, case.test) if number == case.number)
    model.update(tree_map(_shaken, model.parameters()))
    model.eval()
    mx.eval(model.parameters())
    return model


def _defines_model(path: Path) -> bool:
    return any(
        isinstance(node, ast.ClassDef) and node.name == "Model"
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    )


def _shaken(parameter: mx.array) -> mx.array:
    """Float32 and off its initial value, as many start at 0 or 1; packed weights stay."""
    if not mx.issubdtype(parameter.dtype, mx.floating):
        return parameter
    return parameter.astype(mx.float32) + 0.05 * mx.random.normal(parameter.shape)


def _made_by(tests: Path, wanted: str | None) -> Iterator[tuple[str, int, Any]]:
    """Test, number and model of all that mlx-lm's tests hand to their runner; it is replaced and runs nothing."""
    spec = importlib.util.spec_from_file_location("mlx_lm_tests", tests)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: list[Any] = []
    module.TestModels.model_test_runner = lambda _self, model, *_: made.append(model)
    with _short_windows():
        for name in [wanted] if wanted else _tests_of_models(module.TestModels):
            made.clear()
            with redirect_stdout(sys.stderr):  # stdout is data
                module.TestModels(name).run(unittest.TestResult())
            yield from ((name, number, model) for number, model in enumerate(made))


def _tests_of_models(cls: type[Any]) -> Iterable[str]:
    for name in sorted(vars(cls)):
        code = getattr(vars(cls)[name], "__code__", None)
        if name.startswith("test_") and code is not None and "model_test_runner" in code.co_names:
            yield name


@contextmanager
def _short_windows() -> Iterator[None]:
    original: Callable[..., Any] = BaseModelArgs.from_dict.__func__

    def from_dict(cls: Any, params: Mapping[str, Any]) -> Any:
        short = {key: _WINDOW for key, value in params.items() if key in _WINDOWS and isinstance(value, int)}
        return original(cls, {**params, **short})

    BaseModelArgs.from_dict = classmethod(from_dict)
    try:
        yield
    finally:
        BaseModelArgs.from_dict = classmethod(original)

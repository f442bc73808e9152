"""A model in parts against the model whole: right cuts are found exact, broken ones are found out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlxctl.errors import IllegalCut
from mlxctl.sharding.architectures import build, own_cases
from mlxctl.sharding.check import FolderSource, MemorySource, document, judge, run_split, run_whole, telling_cuts
from mlxctl.sharding.layer_map import LayerMap
from tests.tiny_models import CONFIGS, LAYERS, random_model, write_checkpoint
from tests.toy_models import Handing, Skipping, Toy, Twice

pytestmark = pytest.mark.unit

PROMPTS = [[[[3, 1, 4]], [[1, 5]]]]


class Careless(MemorySource):
    """Takes every cut for legal, and leaves `unread` behind at each."""

    def __init__(self, model: Any, unread: frozenset[str] = frozenset()) -> None:
        super().__init__(model)
        true, plain = LayerMap.of(self.whole()), LayerMap.of(Toy())
        crossings = {cut: replace(plain.crossings[cut], unread=unread) for cut in plain.legal_cuts}
        self._careless = replace(true, illegal_cuts={}, crossings={**crossings, **true.crossings})
        if unread:
            self._careless = replace(self._careless, crossings=crossings)

    @property
    def layers(self) -> LayerMap:
        return self._careless


def test_a_plain_model_is_exact_at_every_cut() -> None:
    finding = judge(MemorySource(Toy()), PROMPTS, 3)
    assert (finding.verdict, finding.reason, finding.layer_count) == ("exact", "", 4)
    assert [split.cuts for split in finding.splits] == [(2,), (1, 2), (1, 3), (1, 2, 3)]
    assert {(split.difference, split.payload_bytes, split.grows) for split in finding.splits} == {(0.0, 16, False)}


@pytest.mark.parametrize("architecture", ["gpt_oss", "qwen3_next"])
def test_a_model_on_disk_is_checked_as_workers_load_it(tmp_path: Path, architecture: str) -> None:
    finding = judge(FolderSource(write_checkpoint(tmp_path, architecture)), PROMPTS, 2, [(3,), (1, 6)])
    assert (finding.verdict, finding.layer_count) == ("exact", LAYERS)
    assert [split.cuts for split in finding.splits] == [(3,), (1, 6)]


@pytest.mark.parametrize(
    ("name", "legal"),
    [("deepseek_v41", (1, 4)), ("kimi_k3_attention_residuals", (1, 2, 3, 4, 5)), ("gemma3n", (1, 2, 3))],
)
def test_models_that_hand_on_more_than_an_array_are_exact(name: str, legal: tuple[int, ...]) -> None:
    case = next(case for case in own_cases() if case.name == name)
    source = MemorySource(build(case, None))
    assert source.layers.legal_cuts == legal
    prompt = [[[5, 3, 9, 2, 7, 1, 8, 4, 6, 0, 5]], [[2, 8, 1, 3, 7]]]
    assert judge(source, [prompt], 3).verdict == "exact"


def test_a_cut_past_which_a_layer_reads_is_found_out() -> None:
    source = Careless(Skipping())
    finding = judge(source, PROMPTS, 3, [(3,)])
    assert finding.verdict == "wrong"
    assert finding.reason.startswith("cut at [3]: logits differ by")


def test_a_boundary_that_lacks_what_is_read_is_found_out() -> None:
    assert judge(Careless(Toy(), frozenset({"/0"})), PROMPTS, 1).verdict == "wrong"


def test_a_boundary_that_grows_is_found_out() -> None:
    finding = judge(Careless(Handing()), PROMPTS, 3, [(2,)])
    assert finding.verdict == "wrong"


def test_a_stage_that_fails_is_found_out() -> None:
    class Failing(MemorySource):
        def shard(self, start: int, stop: int) -> Any:
            if start:
                raise RuntimeError("out\nof luck")
            return super().shard(start, stop)

    source = Failing(Toy())
    (run,) = run_whole(source.whole(), PROMPTS, 1)
    split = run_split(source, (2,), [run])
    assert split.error == split.fault == "RuntimeError: out of luck"


def test_logits_that_alone_are_not_numbers_are_found_out() -> None:
    source = MemorySource(Toy())
    (run,) = run_whole(source.whole(), PROMPTS, 0)
    spoilt = replace(run, logits=tuple(logits * mx.nan for logits in run.logits))
    split = run_split(source, (2,), [spoilt])
    assert split.fault == "logits differ by inf"
    assert document("toy", judge(source, PROMPTS, 0))["splits"][0]["difference"] == 0.0


def test_a_model_that_cannot_be_cut_says_why() -> None:
    finding = judge(MemorySource(Twice()), PROMPTS, 1)
    assert finding.verdict == "not splittable"
    assert "once each, in order" in finding.reason


def test_a_model_that_never_answers_twice_alike_proves_nothing() -> None:
    class Dicing(Toy):
        def run(self, h: Any, cache: list[Any]) -> Any:
            return super().run(h, cache) + mx.random.normal(h.shape)

    assert judge(MemorySource(Dicing()), PROMPTS, 1).verdict == "not testable"


def test_asking_for_an_illegal_cut_is_an_error() -> None:
    with pytest.raises(IllegalCut, match="cannot cut before layer 3"):
        judge(MemorySource(Skipping()), PROMPTS, 1, [(3,)])


def test_the_whole_draws_its_own_next_tokens() -> None:
    (run,) = run_whole(Toy(), PROMPTS, 2)
    assert run.steps[:2] == ([[3, 1, 4]], [[1, 5]])
    assert run.steps[2] == mx.argmax(run.logits[1][:, -1:], axis=-1).tolist()
    assert len(run.steps) == len(run.logits) == 4


def test_cuts_are_tried_at_most_16_at_once() -> None:
    layers = LayerMap(100, (), ((),) * 100, (), {50: "x"}, {})
    middle, thirds, ends, many = telling_cuts(layers)
    assert (middle, thirds, ends) == ((49,), (33, 66), (1, 99))
    assert len(many) <= 16


def test_a_finding_is_json() -> None:
    model = random_model({"model_type": "llama", **CONFIGS["llama"]})
    entry: Mapping[str, Any] = json.loads(json.dumps(document("llama", judge(MemorySource(model), PROMPTS, 1))))
    assert entry["name"] == "llama"
    assert entry["verdict"] == "exact"
    assert entry["splits"][0] == {
        "cuts": [4],
        "difference": 0.0,
        "payload_bytes": 256,
        "payload_grows": False,
        "error": None,
    }

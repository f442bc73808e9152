"""mlx-lm alone in a process of its own, which does what it is told on stdin. Started by `Baseline`.

One JSON object a line: {"do": "decode", "prompt": 64, "tokens": 32, "sequences": 1}, {"do": "prefill", "prompt": 99};
{"do": "stream", "ids": [5, 9], "tokens": 32} is mlx_lm.stream_generate, reading the prompt included. The answer is
{"tok_per_s": …}.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any


def main(path: str) -> None:
    """Serve the model at `path` until stdin ends."""
    from mlxctl.sharding import load_model
    from mlxctl.sharding.model import read_config

    layers = int(read_config(Path(path))["num_hidden_layers"])
    model = load_model(Path(path), 0, layers, on_progress=lambda _: None).model  # whole: mlx-lm's own, untouched
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps({"tok_per_s": ORDERS[order["do"]](model, order, path)}), flush=True)


def _prompt(length: int) -> list[int]:
    return [random.randrange(10, 1000) for _ in range(length)]  # noqa: S311


def _prefill(model: Any, order: dict[str, Any], path: str) -> float:
    import mlx.core as mx
    from mlx_lm.generate import generate_step

    began_s = time.perf_counter()
    next(iter(generate_step(mx.array(_prompt(order["prompt"])), model, max_tokens=1)))
    return float(order["prompt"] / (time.perf_counter() - began_s))


def _decode(model: Any, order: dict[str, Any], path: str) -> float:
    if order["sequences"] == 1:
        return _decode_one(model, order["prompt"], order["tokens"])
    from mlx_lm.generate import BatchGenerator

    generator = BatchGenerator(model, max_tokens=order["tokens"], completion_batch_size=order["sequences"])
    generator.insert([_prompt(order["prompt"]) for _ in range(order["sequences"])])
    moments: list[float] = []
    left = order["sequences"]
    while left:
        _, responses = generator.next()
        left -= sum(response.finish_reason is not None for response in responses)
        if len(responses) == order["sequences"]:
            moments.append(time.perf_counter())
    return float(order["sequences"] * (len(moments) - 1) / (moments[-1] - moments[0]))


def _decode_one(model: Any, prompt: int, tokens: int) -> float:
    import mlx.core as mx
    from mlx_lm.generate import generate_step

    moments = [time.perf_counter() for _ in generate_step(mx.array(_prompt(prompt)), model, max_tokens=tokens)]
    return (len(moments) - 1) / (moments[-1] - moments[0])


def _stream(model: Any, order: dict[str, Any], path: str) -> float:
    from mlx_lm import stream_generate

    tokenizer = _tokenizer(path)
    began_s = time.perf_counter()
    made = sum(1 for _ in stream_generate(model, tokenizer, order["ids"], max_tokens=order["tokens"]))
    return made / (time.perf_counter() - began_s)


@cache
def _tokenizer(path: str) -> Any:
    from mlx_lm.utils import load_tokenizer

    return load_tokenizer(Path(path))


ORDERS: dict[str, Callable[[Any, dict[str, Any], str], float]] = {
    "prefill": _prefill,
    "decode": _decode,
    "stream": _stream,
}

if __name__ == "__main__":
    main(sys.argv[1])

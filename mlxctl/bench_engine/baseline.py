"""mlx-lm alone in a process of its own, which does what it is told on stdin. Started by `Baseline`.

One JSON object a line: {"do": "decode", "prompt": 64, "tokens": 32, "sequences": 1} or {"do": "prefill", "prompt": 99};
the answer is {"tok_per_s": …}.
"""

from __future__ import annotations

import json
import random
import sys
import time
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
        rate = _prefill(model, order) if order["do"] == "prefill" else _decode(model, order)
        print(json.dumps({"tok_per_s": rate}), flush=True)


def _prompt(length: int) -> list[int]:
    return [random.randrange(10, 1000) for _ in range(length)]  # noqa: S311


def _prefill(model: Any, order: dict[str, Any]) -> float:
    import mlx.core as mx
    from mlx_lm.generate import generate_step

    began_s = time.perf_counter()
    next(iter(generate_step(mx.array(_prompt(order["prompt"])), model, max_tokens=1)))
    return float(order["prompt"] / (time.perf_counter() - began_s))


def _decode(model: Any, order: dict[str, Any]) -> float:
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


if __name__ == "__main__":
    main(sys.argv[1])

"""Trains the canary: python -m ….train TOKENIZER_FOLDER OUT_FOLDER SECONDS [--initial FILE]; see README.md."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from mlxctl.canary.training.batches import Batch, batch_queue
from mlxctl.canary.training.network import Shape, Trunk

_PREFIX = "model."
_WARM_UP_STEPS = 300
_LOWEST_RATE = 0.01
_REPORT_EVERY_STEPS = 500


@dataclass(frozen=True, slots=True)
class Result:
    """What a run did; written to training.json."""

    steps: int
    tokens: int
    learnt_tokens: int
    seconds: float
    final_loss: float


class Trainer:
    """The network, its optimizer and one step of both; bfloat16 autocast on CUDA, float32 on a CPU."""

    def __init__(self, shape: Shape, initial: Path | None) -> None:
        torch.manual_seed(0)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.on_gpu = self.device == "cuda"
        torch.backends.cuda.matmul.allow_tf32 = True
        self.trunk = Trunk(shape).to(self.device)
        if initial:
            weights = load_file(initial)
            self.trunk.load_state_dict({name.removeprefix(_PREFIX): weight.float() for name, weight in weights.items()})
        parameters = list(self.trunk.parameters())
        groups = [
            {"params": [each for each in parameters if each.dim() == 2], "weight_decay": 0.05},
            {"params": [each for each in parameters if each.dim() < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=self.on_gpu)
        self._run = torch.compile(self.trunk) if self.on_gpu else self.trunk

    def gradients(self, batch: Batch) -> tuple[Any, Any]:
        """Loss and share of right tokens, both scalars on the device; the gradients are added up."""
        columns = (batch.tokens, batch.positions, batch.starts, batch.learnt)
        tokens, positions, starts, learnt = (torch.from_numpy(column).to(self.device) for column in columns)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.on_gpu):
            hidden = self._run(tokens.long(), positions.long(), starts)
            logits = functional.linear(hidden[learnt.long()], self.trunk.embed_tokens.weight)
        targets = tokens[learnt.long() + 1].long()
        loss = functional.cross_entropy(logits.float(), targets)
        loss.backward()
        return loss, (logits.argmax(-1) == targets).float().mean()

    def step(self, batch: Batch, rate: float) -> tuple[Any, Any]:
        """One optimizer step at learning rate `rate`; returns what `gradients` does."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss, accuracy = self.gradients(batch)
        nn.utils.clip_grad_norm_(self.trunk.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss, accuracy

    def compile(self, batch: Batch) -> None:
        """Compiles on a first batch, so that the clock starts afterwards."""
        self.gradients(batch)
        self.optimizer.zero_grad(set_to_none=True)
        if self.on_gpu:
            torch.cuda.synchronize()


def rate_at(share: float, step: int, peak: float) -> float:
    """The learning rate after `share` of the time: warm-up, then a cosine down to a hundredth of `peak`."""
    cosine = 0.5 * (1 + math.cos(math.pi * share))
    return peak * min(1.0, (step + 1) / _WARM_UP_STEPS) * (_LOWEST_RATE + (1 - _LOWEST_RATE) * cosine)


def train(trainer: Trainer, batches: Queue[Batch], *, seconds: float, peak_rate: float) -> Result:
    """Steps until `seconds` are over, at least one."""
    trainer.compile(batches.get())
    start = time.monotonic()
    steps = tokens = learnt = 0
    elapsed = loss_value = 0.0
    while elapsed < seconds or not steps:
        batch = batches.get()
        rate = rate_at(min(1.0, elapsed / seconds), steps, peak_rate)
        loss, accuracy = trainer.step(batch, rate)
        steps, tokens, learnt = steps + 1, tokens + len(batch.tokens), learnt + len(batch.learnt)
        if steps <= 2 or steps % _REPORT_EVERY_STEPS == 0:
            print(f"step {steps} {elapsed:.0f} s rate {rate:.2e} loss {loss:.4f} right {accuracy:.4f}", flush=True)
        elapsed = time.monotonic() - start
        loss_value = loss.detach()
    return Result(steps, tokens, learnt, round(elapsed, 1), float(loss_value))


def save(trunk: Any, result: Result, tokenizer_folder: Path, folder: Path) -> None:
    """A whole model in float32 beside training.json: weights, configuration and tokenizer."""
    shutil.copytree(tokenizer_folder, folder, dirs_exist_ok=True)
    state = trunk.state_dict()
    weights = {_PREFIX + name: weight.detach().float().cpu().contiguous() for name, weight in state.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "training.json").write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer_folder", type=Path)
    parser.add_argument("out_folder", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--initial", type=Path, help="float32 weights to go on from")
    parser.add_argument("--tokens", type=int, default=65536, help="tokens a step")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    return parser.parse_args()


def main() -> None:
    """The command line."""
    options = _arguments()
    tokenizer_file = options.tokenizer_folder / "tokenizer.json"
    shape = Shape.parse(json.loads((options.tokenizer_folder / "config.json").read_text(encoding="utf-8")))
    trainer = Trainer(shape, options.initial)
    print(f"{sum(each.numel() for each in trainer.trunk.parameters()):,} parameters on {trainer.device}", flush=True)
    with batch_queue(tokenizer_file, seed=options.seed, size_tokens=options.tokens, workers=options.workers) as batches:
        result = train(trainer, batches, seconds=options.seconds, peak_rate=options.rate)
    save(trainer.trunk, result, options.tokenizer_folder, options.out_folder)
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()

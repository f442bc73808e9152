"""Training batches: whole documents laid end to end, made by worker processes. Called by train."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from mlxctl.canary.training.documents import document
from mlxctl.canary.training.encoding import Encoder
from mlxctl.canary.training.vocabulary import fill_pool

Int32s = NDArray[np.int32]
_POOL_WORDS = 40_000
_WAITING_BATCHES = 64
_TOKENS_PER_DOCUMENT = 100
"""Fewer than documents have: bounds how many of them fit a batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents end to end, int32: `tokens` and `positions` within the document [T], `learnt` the places whose next
    token counts for the loss, `starts` where each document begins, padded with T [documents + 1]."""

    tokens: Int32s
    positions: Int32s
    learnt: Int32s
    starts: Int32s


def make_batch(encoder: Encoder, rng: Random, size_tokens: int) -> Batch:
    """One batch of exactly `size_tokens`; the last document is cut."""
    most_documents = max(8, size_tokens // _TOKENS_PER_DOCUMENT)
    tokens, positions, learnt, starts = list[int](), list[int](), list[int](), [0]
    while len(tokens) < size_tokens and len(starts) < most_documents:
        ids, mask = document(encoder, rng)
        length, offset = min(len(ids), size_tokens - len(tokens)), len(tokens)
        tokens += ids[:length]
        positions += range(length)
        learnt += [offset + place - 1 for place in range(1, length) if mask[place]]
        starts.append(offset + length)
    padding = [0] * (size_tokens - len(tokens))
    starts += [starts[-1]] * (most_documents - len(starts))
    starts[-1] = size_tokens
    return Batch(*(np.array(column, np.int32) for column in (tokens + padding, positions + padding, learnt, starts)))


def _make_forever(tokenizer_file: Path, seed: int, size_tokens: int, batches: Queue[Batch]) -> None:
    rng = Random(seed)  # noqa: S311
    fill_pool(rng, _POOL_WORDS)
    encoder = Encoder(tokenizer_file)
    while True:
        batches.put(make_batch(encoder, rng, size_tokens))


@contextmanager
def batch_queue(tokenizer_file: Path, *, seed: int, size_tokens: int, workers: int) -> Iterator[Queue[Batch]]:
    """A queue that `workers` processes keep filled, each with a seed of its own, until the context ends."""
    context = multiprocessing.get_context("spawn")
    batches: Queue[Batch] = context.Queue(_WAITING_BATCHES)
    arguments = [(tokenizer_file, seed + number, size_tokens, batches) for number in range(workers)]
    processes = [context.Process(target=_make_forever, args=each, daemon=True) for each in arguments]
    for process in processes:
        process.start()
    try:
        yield batches
    finally:
        for process in processes:
            process.kill()
            process.join()

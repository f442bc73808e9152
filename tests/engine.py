"""A real engine in one thread of the test: mlx-lm's own generation of the unsplit canary, behind `request.Engine`."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model

from mlxctl.canary import MODEL_DIR
from mlxctl.errors import MlxctlError, Overloaded
from mlxctl.request import FinishReason, GenerationRequest, Sampling, TokenLogprob
from mlxctl.sharding.sampling import sample


class UnsplitGeneration:
    """One request: the engine's thread gives tokens, the event loop's task takes them."""

    def __init__(self, request: GenerationRequest) -> None:
        self.request = request
        self.cancelled = threading.Event()
        self.finish_reason: FinishReason | None = None
        self.logprobs: list[TokenLogprob] = []
        self.cached_tokens = 0
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._tokens: list[int] = []
        self._end: FinishReason | MlxctlError | None = None

    def cancel(self) -> None:
        """Ends it; noticed before the next token."""
        if self.finish_reason is None:
            self.cancelled.set()

    async def __aiter__(self) -> AsyncIterator[list[int]]:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            tokens, self._tokens = self._tokens, []
            if tokens:
                yield tokens
            if isinstance(self._end, MlxctlError):
                raise self._end
            if self._end is not None:
                return

    def give(
        self, token: int | None, end: FinishReason | MlxctlError | None, logprob: TokenLogprob | None = None
    ) -> None:
        """Called on the engine's thread."""
        self._loop.call_soon_threadsafe(self._take, token, end, logprob)

    def _take(self, token: int | None, end: FinishReason | MlxctlError | None, logprob: TokenLogprob | None) -> None:
        if token is not None:
            self._tokens.append(token)
        if logprob is not None:
            self.logprobs.append(logprob)
        self._end = end
        if not isinstance(end, MlxctlError):
            self.finish_reason = end
        self._arrived.set()


class UnsplitEngine:
    """Serves requests in turns, a token each. `hold_after` and `fail_after` stop or break every answer at a token."""

    def __init__(self, model_dir: Path = MODEL_DIR) -> None:
        self.generations: list[UnsplitGeneration] = []
        self.queue_limit: int | None = None
        self.hold_after: int | None = None
        self.fail_after: tuple[int, MlxctlError] | None = None
        self._model_dir = model_dir
        self._waiting: queue.SimpleQueue[UnsplitGeneration | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="unsplit engine")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for generation in self.generations:
            generation.cancelled.set()
        self._waiting.put(None)
        self._thread.join()

    def forget(self) -> None:
        """As new, for the next test."""
        self.generations.clear()
        self.queue_limit = self.hold_after = self.fail_after = None

    def submit(self, request: GenerationRequest) -> UnsplitGeneration:
        """See request.Engine."""
        if self.queue_limit is not None and len(self.generations) >= self.queue_limit:
            raise Overloaded("the queue is full", retry_after_s=3)
        generation = UnsplitGeneration(request)
        self.generations.append(generation)
        self._waiting.put(generation)
        return generation

    def _run(self) -> None:
        model = load_model(self._model_dir)[0]
        running: dict[UnsplitGeneration, Iterator[bool]] = {}
        while True:
            while not running or not self._waiting.empty():
                arrived = self._waiting.get()
                if arrived is None:
                    mx.synchronize()
                    mx.clear_streams()  # this thread's; else MLX aborts the interpreter at its end
                    return
                running[arrived] = self._generate(model, arrived)
            for generation, steps in list(running.items()):
                if not next(steps, False):
                    del running[generation]

    def _generate(self, model: object, generation: UnsplitGeneration) -> Iterator[bool]:
        """Yields True after each token."""
        request = generation.request
        positions = itertools.count(len(request.prompt))
        steps = generate_step(
            mx.array(request.prompt),
            model,
            max_tokens=request.max_tokens,
            sampler=lambda logprobs: _drawn(logprobs, request.sampling, next(positions)),
        )
        for made, (token, logprobs) in enumerate(steps, start=1):
            while self.hold_after is not None and made > self.hold_after and not generation.cancelled.wait(0.01):
                yield True
            if generation.cancelled.is_set():
                return
            if self.fail_after is not None and made > self.fail_after[0]:
                return generation.give(None, self.fail_after[1])
            if int(token) in request.stop_ids:
                return generation.give(None, "stop")
            record = _record(int(token), logprobs, request.sampling.top_logprobs)
            generation.give(int(token), "length" if made == request.max_tokens else None, record)
            yield True


def _drawn(logprobs: mx.array, sampling: Sampling, position: int) -> mx.array:
    draw = sample(logprobs, [sampling], [position])
    mx.eval(draw.arrays)
    return mx.array(draw.tokens())


def _record(token: int, logprobs: mx.array, top: int | None) -> TokenLogprob | None:
    if top is None:
        return None
    values: list[float] = logprobs.astype(mx.float32).tolist()  # type: ignore[assignment]
    likeliest = sorted(range(len(values)), key=lambda each: -values[each])[:top]
    return TokenLogprob(token, values[token], tuple((each, values[each]) for each in likeliest))

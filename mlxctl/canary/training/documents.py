"""Training documents: dialogues and a little plain text as token ids with a loss mask. Called by train."""

from __future__ import annotations

from random import Random

from mlxctl.canary.training.dialogue import Dialogue
from mlxctl.canary.training.draws import between, chance
from mlxctl.canary.training.encoding import END_OF_TEXT, Encoder, encode
from mlxctl.canary.training.mixes import any_dialogue, chat, memory_test
from mlxctl.canary.training.plain_text import plain_text

CONTEXT_TOKENS = 4096
_SHARE_OF_THINKING = 0.42


def document(encoder: Encoder, rng: Random) -> tuple[list[int], list[int]]:
    """One document of at most CONTEXT_TOKENS: ids, and a mask of the tokens that count for the loss."""
    while True:
        point = rng.random()
        if point < 0.035:
            ids = [*encoder(plain_text(rng)), END_OF_TEXT]
            return ids, [1] * len(ids)
        ids, mask = encode(encoder, _dialogue(rng, point), thinks=chance(rng, _SHARE_OF_THINKING), rng=rng)
        if len(ids) <= CONTEXT_TOKENS:
            return ids, mask


def _dialogue(rng: Random, point: float) -> Dialogue:
    if point < 0.045:
        return memory_test(rng, characters=between(rng, 1500, 6000))
    return chat(rng, turns=between(rng, 8, 25)) if point < 0.05 else any_dialogue(rng)

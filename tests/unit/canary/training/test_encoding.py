"""The training saw the very tokens that the chat template makes."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from mlx_lm.tokenizer_utils import load

from mlxctl.canary import MODEL_DIR
from mlxctl.canary.training.dialogue import SEAM, Dialogue, Message
from mlxctl.canary.training.documents import CONTEXT_TOKENS, document
from mlxctl.canary.training.encoding import Encoder, encode
from mlxctl.canary.training.mixes import any_dialogue
from mlxctl.canary.training.vocabulary import fill_pool

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    fill_pool(Random(7), 2000)
    return Encoder(MODEL_DIR / "tokenizer.json")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load(MODEL_DIR)


def as_api_message(message: Message, *, thinks: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"role": message.role, "content": message.content.replace(SEAM, "")}
    if message.calls:
        calls = [{"name": call.name, "arguments": call.arguments} for call in message.calls]
        shown["tool_calls"] = [{"type": "function", "function": call} for call in calls]
    if thinks and message.thought:
        shown["reasoning_content"] = message.thought
    return shown


def without_seams(dialogue: Dialogue) -> Dialogue:
    for place, message in enumerate(dialogue.messages):
        content = message.content.replace(SEAM, "")
        dialogue.messages[place] = Message(message.role, content, message.thought, message.calls)
    return dialogue


@pytest.mark.parametrize("thinks", [False, True])
def test_the_chat_template_gives_the_same_tokens(encoder: Encoder, tokenizer: Any, thinks: bool) -> None:
    for seed in range(100):
        dialogue = without_seams(any_dialogue(Random(seed)))
        prompt, _ = encode(encoder, dialogue, thinks=thinks, prompt_only=True)
        messages = [as_api_message(message, thinks=thinks) for message in dialogue.messages[:-1]]
        if dialogue.system:
            messages.insert(0, {"role": "system", "content": dialogue.system})
        rendered = tokenizer.apply_chat_template(
            messages, tools=dialogue.tools, add_generation_prompt=True, enable_thinking=thinks
        )
        assert prompt == rendered, seed


def test_a_document_fits_the_context_and_has_a_mask_of_its_length(encoder: Encoder) -> None:
    for seed in range(100):
        ids, mask = document(encoder, Random(seed))
        assert len(ids) == len(mask) <= CONTEXT_TOKENS
        assert any(mask)


def test_only_what_the_canary_says_counts_for_the_loss(encoder: Encoder) -> None:
    dialogue = Dialogue(Random(1))
    dialogue.messages += [Message("user", "Who are you?"), Message("assistant", "I am Canary.", "The user asks.")]
    ids, mask = encode(encoder, dialogue, thinks=True)
    learnt = [token for token, counts in zip(ids, mask, strict=True) if counts]
    text = encoder.tokenizer.decode(learnt, skip_special_tokens=False)
    assert text == "<think>\nThe user asks.\n</think>\n\nI am Canary.<|im_end|>"

"""Trains the byte-level BPE on synthetic text and writes all but the weights: python -m ….build_tokenizer FOLDER"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from mlxctl.canary import MODEL_DIR
from mlxctl.canary.training.dialogue import SEAM, Dialogue
from mlxctl.canary.training.draws import chance
from mlxctl.canary.training.encoding import PATTERN, SPECIAL_TOKENS, TOOLS_AFTER, TOOLS_BEFORE, call_text
from mlxctl.canary.training.mixes import needle_test, pick_kind
from mlxctl.canary.training.phrases import words
from mlxctl.canary.training.plain_text import plain_text
from mlxctl.canary.training.vocabulary import CAPITALS, CITIES, DAYS, JOBS, LISTED, MONTHS, NAMES, PARAMETERS, fill_pool

VOCABULARY_SIZE = 2048
_HIDDEN_TOKENS = 3
"""The first special tokens are never shown; the others (<think>, <tool_call> …) are text."""


def corpus(documents: int = 30_000, seed: int = 1) -> Iterator[str]:
    """Texts of the training mix, then every listed word often enough to become a token."""
    rng = Random(seed)  # noqa: S311
    fill_pool(rng, 30_000)
    for _ in range(documents):
        if chance(rng, 0.08):
            yield plain_text(rng)
        else:
            make = pick_kind(rng)
            yield _text_of(needle_test(rng, 400) if make is needle_test else make(rng))
    listed = [*LISTED, *NAMES, *CITIES, *PARAMETERS, *JOBS, *words("past_verbs"), *CAPITALS, *DAYS, *MONTHS]
    yield from [" ".join(listed)] * 40


def _text_of(dialogue: Dialogue) -> str:
    tools = "\n".join(json.dumps(tool) for tool in dialogue.tools or [])
    text = TOOLS_BEFORE + tools + TOOLS_AFTER if tools else ""
    text += "\nsystem\nuser\nassistant\n" + (dialogue.system or "")
    for message in dialogue.messages:
        calls = "".join(call_text(call) for call in message.calls)
        text += f"\n{message.content}\n{message.thought}{calls}"
    return text.replace(SEAM, "")


def train(texts: Iterator[str]) -> Tokenizer:
    """A tokenizer of VOCABULARY_SIZE tokens, the special ones first."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    added = [AddedToken(token, special=_is_hidden(id_), normalized=False) for id_, token in enumerate(SPECIAL_TOKENS)]
    tokenizer.add_special_tokens(added[:_HIDDEN_TOKENS])
    tokenizer.add_tokens(added[_HIDDEN_TOKENS:])
    return tokenizer


def _is_hidden(token_id: int) -> bool:
    return token_id < _HIDDEN_TOKENS


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes tokenizer, configuration and chat template; the last two are the shipped model's."""
    folder.mkdir(parents=True, exist_ok=True)
    document = json.loads(tokenizer.to_str())
    for token in document["added_tokens"]:
        token["special"] = _is_hidden(token["id"])
    _write_json(folder / "tokenizer.json", document)
    for name in ("tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
        shutil.copyfile(MODEL_DIR / name, folder / name)
    config = json.loads((MODEL_DIR / "config.json").read_text(encoding="utf-8"))
    _write_json(folder / "config.json", {key: config[key] for key in config if not key.startswith("quantization")})


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    tokenizer = train(corpus())
    write(tokenizer, parser.parse_args().folder)
    print(f"{tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()

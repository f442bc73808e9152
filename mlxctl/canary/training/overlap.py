"""How many hand-written prompts the generator also writes: python -m ….overlap DIALOGUES"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from random import Random

from mlxctl.canary.training.mixes import any_dialogue
from mlxctl.canary.training.vocabulary import fill_pool
from mlxctl.canary.training.written import written_dialogues

_LONGEST = 300
"""Characters; longer prompts hold random texts."""


def normal(prompt: str) -> str:
    """`prompt` without case and punctuation."""
    return re.sub(r"[^\w]+", " ", prompt.lower()).strip()


def generated_prompts(dialogues: int, seed: int = 11) -> set[str]:
    """The normal form of every short prompt in so many dialogues."""
    rng = Random(seed)  # noqa: S311
    fill_pool(rng, 20_000)
    messages = (message for _ in range(dialogues) for message in any_dialogue(rng).messages)
    return {
        normal(message.content) for message in messages if message.role == "user" and len(message.content) < _LONGEST
    }


def _written_prompts() -> Iterator[str]:
    for dialogue in written_dialogues():
        if dialogue.section != "first55":
            for turn in dialogue.turns:
                yield from (message["content"] for message in turn.messages if message["role"] == "user")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dialogues", type=int)
    generated = generated_prompts(parser.parse_args().dialogues)
    written = list(_written_prompts())
    both = [prompt for prompt in written if normal(prompt) in generated]
    print(f"{len(both)} of {len(written)} prompts are generated too")
    print("\n".join(both))


if __name__ == "__main__":
    main()

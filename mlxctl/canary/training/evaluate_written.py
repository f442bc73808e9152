"""Judges a model on the hand-written turns: python -m ….evaluate_written MODEL_FOLDER [--section fresh] [--think]"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlxctl.canary.training.greedy import Model, tool_calls, without_thought
from mlxctl.canary.training.written import WrittenDialogue, written_dialogues

_MOST_TOKENS = 200
_GUIDED = "first55"
"""The section whose failures guided the training: counted apart."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One turn as it went."""

    section: str
    user: str
    answer: str
    is_right: bool


def converse(model: Model, dialogue: WrittenDialogue, *, thinks: bool) -> Iterator[Outcome]:
    """The dialogue with the model's own answers as history."""
    messages: list[dict[str, Any]] = []
    if dialogue.system:
        messages.append({"role": "system", "content": dialogue.system})
    for turn in dialogue.turns:
        messages += turn.messages
        prompt = model.prompt(messages, dialogue.tools, thinks=thinks or dialogue.thinks)
        text = model.answer(prompt, most_tokens=_MOST_TOKENS)
        answer = without_thought(text)
        yield Outcome(dialogue.section, turn.messages[-1]["content"][-160:], text, turn.check.holds(answer))
        messages.append(_as_message(answer))


def _as_message(answer: str) -> dict[str, Any]:
    try:
        calls = tool_calls(answer)
    except ValueError:
        calls = []
    if not calls:
        return {"role": "assistant", "content": answer}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": call} for call in calls],
    }


def print_report(outcomes: Iterable[Outcome]) -> None:
    """Misses, then the count of each section and of all."""
    right: dict[str, list[bool]] = defaultdict(list)
    for outcome in outcomes:
        right[outcome.section].append(outcome.is_right)
        if not outcome.is_right:
            print(f"miss: {outcome.section}: {outcome.user!r} -> {outcome.answer!r}")
    for section, results in right.items():
        print(f"{section:28} {sum(results)}/{len(results)}")
    others = [result for section, results in right.items() if section != _GUIDED for result in results]
    print(f"{'all without ' + _GUIDED:28} {sum(others)}/{len(others)}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model_folder", type=Path)
    parser.add_argument("--section", default="", help="only the sections that begin so")
    parser.add_argument("--think", action="store_true", help="every turn in thinking mode")
    parser.add_argument("--out", type=Path, help="where to write every answer as JSON")
    options = parser.parse_args()
    model = Model(options.model_folder)
    chosen = [each for each in written_dialogues() if each.section.startswith(options.section)]
    outcomes = [outcome for dialogue in chosen for outcome in converse(model, dialogue, thinks=options.think)]
    print_report(outcomes)
    if options.out:
        rows = [asdict(outcome) for outcome in outcomes]
        options.out.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

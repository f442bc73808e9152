"""Judges a model skill by skill on new dialogues: python -m ….evaluate_skills MODEL_FOLDER [--prompts 3]"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random

from mlxctl.canary.training.dialogue import Dialogue
from mlxctl.canary.training.draws import between, choose
from mlxctl.canary.training.encoding import Encoder, encode, final_answer
from mlxctl.canary.training.greedy import Model, tool_calls
from mlxctl.canary.training.mixes import SKILLS, chat, memory_test, needle_test, style_test, tool_test
from mlxctl.canary.training.skills import memory, small_talk
from mlxctl.canary.training.vocabulary import CAPITALS, DAYS, LETTERS, MONTHS, fill_pool, word

_MOST_PROMPT_TOKENS = 3900
_SLOW_PROMPT_TOKENS = 900
_OF_MEMORY = {"ask", "recall", "unasked", "note", "asknote"}
Make = Callable[[Random], Dialogue]


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt and the answer that the generator gives; `is_plain`: a text to go on with, no dialogue."""

    skill: str
    thinks: bool
    prompt: tuple[int, ...]
    expected: str
    most_tokens: int
    is_plain: bool = False


def _last(skill: str, rng: Random) -> Dialogue:
    return chat(rng, last=SKILLS[skill][0], turns=choose(rng, [1, 1, 2, 3]), system="none")


def suites() -> dict[str, Make]:
    """Every skill and every kind of dialogue, by the name that EVAL.md gives it."""
    makes: dict[str, Make] = {skill: partial(_last, skill) for skill in SKILLS if skill not in _OF_MEMORY}
    return makes | {
        "recall": lambda rng: chat(rng, last=memory.recall, turns=between(rng, 2, 4), system="none"),
        "memory, 0-6 turns back": lambda rng: memory_test(rng, gap=between(rng, 0, 6)),
        "memory, ~1000-2000 tokens back": lambda rng: memory_test(rng, characters=between(rng, 2000, 4000)),
        "memory: never told": lambda rng: chat(rng, last=memory.ask_untold, turns=between(rng, 1, 4), system="none"),
        "system: upper": lambda rng: style_test(rng, "upper"),
        "system: lower": lambda rng: style_test(rng, "lower"),
        "system: end": lambda rng: style_test(rng, "end"),
        "system: start": lambda rng: style_test(rng, "start"),
        "system: const": lambda rng: style_test(rng, "always"),
        "system: your name is": lambda rng: chat(
            rng, last=small_talk.identity, turns=between(rng, 1, 3), system="persona"
        ),
        "tool call, natural request": lambda rng: tool_test(rng, "call", kind="natural"),
        "tool call, random unseen names": lambda rng: tool_test(rng, "call", kind="made_up"),
        "two parallel tool calls": lambda rng: tool_test(rng, "two"),
        "answer after tool result": lambda rng: tool_test(rng, "answer"),
        "tools offered, not needed": lambda rng: tool_test(rng, "chat"),
        "tools offered, unknown": lambda rng: tool_test(rng, "refuse"),
        "needle ~400 tokens": lambda rng: needle_test(rng, between(rng, 700, 1000)),
        "needle ~1500 tokens": lambda rng: needle_test(rng, between(rng, 2500, 3800)),
        "needle ~3000 tokens": lambda rng: needle_test(rng, between(rng, 5000, 7200)),
    }


_PROMPT_TOKENS = {
    "needle ~400 tokens": (250, 700),
    "needle ~1500 tokens": (1300, 1900),
    "needle ~3000 tokens": (2600, _MOST_PROMPT_TOKENS),
}


def cases(encoder: Encoder, prompts: int, seed: int) -> Iterator[Case]:
    """So many prompts of each suite without thinking and as many with it, then as many plain texts."""
    for skill, make in suites().items():
        for thinks in (False, True):
            rng = Random(f"{seed}/{skill}/{thinks}")  # noqa: S311
            for _ in range(prompts):
                yield _case(encoder, rng, skill, make, thinks=thinks)
    rng = Random(seed)  # noqa: S311
    for number in range(prompts):
        text, rest = _PLAIN[number % len(_PLAIN)](rng)
        yield Case("plain continuation", False, tuple(encoder(text)), rest, len(encoder(rest)) + 8, is_plain=True)


def _case(encoder: Encoder, rng: Random, skill: str, make: Make, *, thinks: bool) -> Case:
    fewest, most = _PROMPT_TOKENS.get(skill, (0, _MOST_PROMPT_TOKENS))
    while True:
        dialogue = make(rng)
        prompt, _ = encode(encoder, dialogue, thinks=thinks, prompt_only=True, rng=rng)
        last = dialogue.messages[-1]
        if (last.calls or last.content) and fewest <= len(prompt) <= most:
            expected = final_answer(dialogue)
            answer_tokens = len(encoder(expected)) * (2 if skill == "reverse" else 1)
            return Case(skill, thinks, tuple(prompt), expected, answer_tokens + (104 if thinks else 24))


def _alphabet(rng: Random) -> tuple[str, str]:
    given, separator = between(rng, 3, 10), choose(rng, [" ", ", "])
    text, start = separator.join(LETTERS), separator.join(LETTERS[:given])
    return start, text[len(start) :]


def _numbers(rng: Random) -> tuple[str, str]:
    first, given = choose(rng, [1, between(rng, 0, 80)]), between(rng, 4, 8)
    separator = choose(rng, [", ", " "])
    numbers = [str(number) for number in range(first, first + given + 5)]
    start = separator.join(numbers[:given]) + separator.strip()
    return start, separator.join(numbers)[len(start) :]


def _calendar(rng: Random) -> tuple[str, str]:
    days = choose(rng, [DAYS, MONTHS])
    first = between(rng, 0, len(days) - 1)
    names = [days[(first + step) % len(days)] for step in range(6)]
    start = ", ".join(names[:3]) + ","
    return start, ", ".join(names)[len(start) :]


def _repetition(rng: Random) -> tuple[str, str]:
    block = [word(rng) for _ in range(between(rng, 2, 5))]
    return " ".join(block * 3), " " + " ".join(block)


def _capital(rng: Random) -> tuple[str, str]:
    country = choose(rng, list(CAPITALS))
    return f"The capital of {country} is", f" {CAPITALS[country]}."


_PLAIN = [_alphabet, _numbers, _calendar, _repetition, _capital]


def is_right(case: Case, text: str) -> bool:
    """Whether the whole answer is the expected one; JSON and tool calls compare as values."""
    if case.is_plain:
        return text.strip().startswith(case.expected.strip())
    if case.thinks:
        thought, mark, text = text.partition("</think>\n\n")
        if not (thought.startswith("<think>\n") and mark):
            return False
    answer, expected = text.strip(), case.expected.strip()
    return answer == expected or _same_values(answer, expected)


def _same_values(answer: str, expected: str) -> bool:
    try:
        if "<tool_call>" in expected:
            return tool_calls(answer) == tool_calls(expected)
        return expected[0] in "{[" and bool(json.loads(answer) == json.loads(expected))
    except ValueError:
        return False


def in_turns(all_cases: Sequence[Case]) -> list[Case]:
    """Skill by skill in turn, long prompts later, so that a run cut short is still balanced."""
    seen: dict[tuple[str, bool], int] = defaultdict(int)
    ranks = []
    for case in all_cases:
        seen[case.skill, case.thinks] += 1
        ranks.append(seen[case.skill, case.thinks] * (10 if len(case.prompt) > _SLOW_PROMPT_TOKENS else 1))
    return [case for _, case in sorted(zip(ranks, all_cases, strict=True), key=lambda ranked: ranked[0])]


@dataclass(slots=True)
class Score:
    """Right answers and prompts of one skill, without and with thinking."""

    right: int = 0
    asked: int = 0
    right_thinking: int = 0
    asked_thinking: int = 0

    def count(self, case: Case, *, right: bool) -> None:
        """Adds one answer."""
        if case.thinks:
            self.right_thinking += right
            self.asked_thinking += 1
        else:
            self.right += right
            self.asked += 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model_folder", type=Path)
    parser.add_argument("--prompts", type=int, default=3, help="per skill and mode")
    parser.add_argument("--seconds", type=float, default=600, help="stop after so long")
    parser.add_argument("--seed", type=int, default=31337)
    parser.add_argument("--out", type=Path, help="where to write the scores as JSON")
    return parser.parse_args()


def main() -> None:
    """The command line."""
    options = _arguments()
    fill_pool(Random(77), 20_000)  # noqa: S311
    encoder, model = Encoder(options.model_folder / "tokenizer.json"), Model(options.model_folder)
    scores: dict[str, Score] = defaultdict(Score)
    end = time.monotonic() + options.seconds
    for case in in_turns(list(cases(encoder, options.prompts, options.seed))):
        if time.monotonic() > end:
            break
        text = model.answer(case.prompt, most_tokens=case.most_tokens)
        right = is_right(case, text)
        scores[case.skill].count(case, right=right)
        if not right:
            print(f"miss: {case.skill}: expected {case.expected!r}, got {text!r}", flush=True)
    for skill, score in scores.items():
        thinking = f"{score.right_thinking}/{score.asked_thinking}"
        print(f"{skill:32} {score.right}/{score.asked} plain, {thinking} thinking")
    if options.out:
        rows = {skill: asdict(score) for skill, score in scores.items()}
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

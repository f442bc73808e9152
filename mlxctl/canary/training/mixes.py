"""Whole dialogues: which skills come how often, in which kinds of dialogue. Called by documents and the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Literal

from mlxctl.canary.training.dialogue import Dialogue, Skill, Turn
from mlxctl.canary.training.draws import between, chance, choose, distinct
from mlxctl.canary.training.exchanges import add_exchange
from mlxctl.canary.training.needles import add_needle
from mlxctl.canary.training.phrases import phrases
from mlxctl.canary.training.skills import (
    copying,
    counting,
    json_objects,
    knowledge,
    letters,
    lists,
    memory,
    numbers,
    people,
    small_talk,
    sums,
)
from mlxctl.canary.training.tools import Kind, offer_tools
from mlxctl.canary.training.vocabulary import name, pseudo_word, word

_SYSTEMS = phrases("systems")
SystemMessage = Literal["any", "none", "persona"]
StyleKind = Literal["upper", "lower", "end", "start", "always"]
ToolMode = Literal["call", "two", "answer", "chat", "refuse"]
MOST_CHARACTERS = 9000
"""Of a needle's text; about 3,900 tokens."""

SKILLS: dict[str, tuple[Skill, float]] = {
    "greet": (small_talk.greet, 4),
    "identity": (small_talk.identity, 4),
    "tell": (memory.tell, 10),
    "ask": (memory.ask, 10),
    "unasked": (memory.ask_untold, 2),
    "recall": (memory.recall, 4.5),
    "repeat": (copying.repeat, 10),
    "repeat_unicode": (copying.repeat_unicode, 3),
    "repeat_n": (copying.repeat_times, 2.5),
    "count": (counting.count, 4),
    "spell": (letters.spell, 5),
    "reverse": (letters.reverse, 7),
    "sort": (numbers.sort, 9),
    "minmax": (numbers.compare, 3),
    "sum": (sums.add_or_subtract, 11),
    "times": (sums.multiply, 2.5),
    "wordpos": (lists.position, 5),
    "letters": (letters.length, 4),
    "case": (letters.case, 4),
    "next": (sums.next_number, 2),
    "sortwords": (lists.sort_words, 5),
    "note": (memory.tell_secret, 5),
    "asknote": (memory.ask_secret, 5),
    "statement": (small_talk.statement, 3),
    "longest": (lists.longest, 6),
    "listlen": (lists.list_length, 3),
    "revlist": (lists.reverse_list, 3),
    "facts": (knowledge.facts, 4),
    "json": (json_objects.json_object, 8),
    "jsonlist": (json_objects.json_array, 4),
    "unknown": (knowledge.unknown, 9),
    "x_small": (small_talk.free_small_talk, 13),
    "x_copy": (copying.free_copy, 16),
    "x_ntimes": (copying.free_repeat_times, 2),
    "x_mine": (people.tell_possession, 5),
    "x_other": (people.tell_relative, 6),
    "x_have": (people.tell_count, 4),
    "x_asks": (people.ask_anything_told, 13),
    "x_nameback": (people.name_at_last, 1),
    "x_count": (counting.free_count, 5),
    "x_arith": (sums.free_sum, 9),
    "x_follow": (sums.go_on, 3),
    "x_word1": (letters.free_letters, 10),
    "x_case": (letters.free_case, 3),
    "x_list": (lists.free_list, 9),
    "x_nums": (numbers.free_numbers, 8),
    "x_facts": (knowledge.free_facts, 4),
    "x_json": (json_objects.free_json_object, 19),
    "x_jsonlist": (json_objects.free_json_array, 4),
    "x_unknown": (knowledge.free_unknown, 11),
}
"""Name: skill and weight. The free wordings of the second round begin with x_."""

_WEIGHTED = [skill for skill, weight in SKILLS.values() for _ in range(int(weight * 2))]
_ARITHMETIC = {sums.add_or_subtract, sums.multiply, sums.free_sum, sums.go_on}
_NO_IDEA = {knowledge.unknown, knowledge.free_unknown}
_TELLS: list[Skill] = [
    memory.tell, memory.tell, memory.tell, memory.tell_secret,
    people.tell_possession, people.tell_relative, people.tell_count,
]  # fmt: skip
_IN_STYLE: list[Skill] = [
    small_talk.greet, small_talk.identity, memory.tell, memory.ask, small_talk.statement, letters.length,
    memory.tell_secret, memory.ask_secret, sums.add_or_subtract, knowledge.facts, knowledge.unknown, lists.position,
    sums.multiply, numbers.compare, memory.ask_untold, small_talk.free_small_talk, small_talk.free_small_talk,
    knowledge.free_unknown, sums.free_sum, people.tell_possession, people.tell_relative, people.ask_anything_told,
    counting.free_count,
]  # fmt: skip
_IN_UPPER_CASE: list[Skill] = [*_IN_STYLE, copying.repeat_times]


def pick(rng: Random, dialogue: Dialogue) -> Skill:
    """A skill by weight, none that an offered tool would answer."""
    while True:
        skill = choose(rng, _WEIGHTED)
        if dialogue.offers_arithmetic and skill in _ARITHMETIC:
            continue
        if dialogue.tools and skill in _NO_IDEA:
            continue
        return skill


def chat(
    rng: Random, *, last: Skill | None = None, turns: int | None = None, system: SystemMessage = "any"
) -> Dialogue:
    """A chat of `turns` turns that ends with `last`, with or without a system message."""
    dialogue = Dialogue(rng)
    _add_system(rng, dialogue, system)
    if turns is None:
        turns = choose(rng, [1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 8])
    for _ in range(turns - 1):
        dialogue.turn(pick(rng, dialogue))
    dialogue.turn(last or pick(rng, dialogue))
    return dialogue


def _add_system(rng: Random, dialogue: Dialogue, system: SystemMessage) -> None:
    point = rng.random()
    if system == "none":
        return
    if system == "persona" or point < 0.06:
        dialogue.persona = name(rng) if chance(rng, 0.9) else pseudo_word(rng).capitalize()
        dialogue.system = choose(rng, _SYSTEMS["persona"]).format(name=dialogue.persona)
    elif point < 0.09:
        dialogue.system = " ".join(_facts_of_the_user(rng, dialogue))
    elif point < 0.2:
        dialogue.system = choose(rng, _SYSTEMS["generic"])


def _facts_of_the_user(rng: Random, dialogue: Dialogue) -> list[str]:
    keys = distinct(rng, lambda rng: choose(rng, ["name", "city", "colour", "age", "job"]), between(rng, 1, 2))
    told = []
    for key in keys:
        value = dialogue.facts[key] = memory.FACTS[key].draw(rng)
        told.append(choose(rng, _SYSTEMS["user_fact"]).format(key=memory.FACTS[key].called, value=value))
    return told


def memory_test(rng: Random, *, gap: int | None = None, characters: int | None = None) -> Dialogue:
    """A fact told early, asked for after `gap` other turns, or after about so many `characters`."""
    dialogue = Dialogue(rng)
    if chance(rng, 0.15):
        dialogue.system = choose(rng, _SYSTEMS["generic"])
    for _ in range(between(rng, 0, 1)):
        dialogue.turn(pick(rng, dialogue))
    for _ in range(between(rng, 1, 3)):
        dialogue.turn(choose(rng, _TELLS))
    if gap is None:
        gap = between(rng, 1, 6)
    _pass_turns(rng, dialogue, gap) if characters is None else _pass_characters(rng, dialogue, characters)
    for _ in range(between(rng, 1, 3) if characters else 1):
        dialogue.turn(_question(rng, dialogue))
    return dialogue


def _pass_turns(rng: Random, dialogue: Dialogue, turns: int) -> None:
    while turns:
        skill = pick(rng, dialogue)
        if skill is not memory.tell or not chance(rng, 0.7):
            dialogue.turn(skill)
            turns -= 1


def _pass_characters(rng: Random, dialogue: Dialogue, characters: int) -> None:
    written = 0
    while written < characters:
        dialogue.turn(pick(rng, dialogue))
        written += sum(len(message.content) for message in dialogue.messages[-2:]) + 30


def _question(rng: Random, dialogue: Dialogue) -> Skill:
    if dialogue.questions and (chance(rng, 0.5) or not (dialogue.facts or dialogue.secrets)):
        return people.ask_anything_told
    if dialogue.facts and (not dialogue.secrets or chance(rng, 0.7)):
        return memory.ask_told
    return memory.ask_secret


def style_test(rng: Random, kind: StyleKind | None = None, turns: int | None = None) -> Dialogue:
    """A dialogue whose system message demands a style of every answer."""
    dialogue = Dialogue(rng)
    kinds: list[StyleKind] = ["upper", "upper", "upper", "lower", "end", "start", "always"]
    chosen: StyleKind = choose(rng, kinds) if kind is None else kind
    if chance(rng, 0.25):
        dialogue.persona = name(rng)
        dialogue.system = f"Your name is {dialogue.persona}. "
    else:
        dialogue.system = choose(rng, _SYSTEMS["before_style"])
    demand, dialogue.style = _STYLES[chosen](rng)
    dialogue.system += demand
    for _ in range(turns or choose(rng, [1, 1, 2, 2, 3, 4])):
        any_skill = chosen == "always" and chance(rng, 0.5)
        skills = _WEIGHTED if any_skill else _IN_UPPER_CASE if chosen == "upper" else _IN_STYLE
        dialogue.turn(choose(rng, skills))
    return dialogue


Style = tuple[str, Callable[[str], str]]
"""What the system message demands, and what it does to an answer."""


def _with_end(rng: Random) -> Style:
    drawn = [f"{pseudo_word(rng).capitalize()}!", f"{word(rng).capitalize()}.", f"{name(rng)} out."]
    text = choose(rng, [*_SYSTEMS["ends"], *drawn, f"{word(rng)} {word(rng)}."])
    return choose(rng, _SYSTEMS["end"]).format(text=text), lambda answer: f"{answer} {text}"


def _with_start(rng: Random) -> Style:
    text = choose(rng, [*_SYSTEMS["starts"], f"{pseudo_word(rng).capitalize()}!", f"{word(rng).capitalize()}:"])
    return choose(rng, _SYSTEMS["start"]).format(text=text), lambda answer: f"{text} {answer}"


def _always(rng: Random) -> Style:
    drawn = [word(rng), f"{word(rng).capitalize()}.", "OK.", f"I am a {word(rng)}.", f"{word(rng)} {word(rng)}"]
    text = choose(rng, drawn)
    return choose(rng, _SYSTEMS["always"]).format(text=text), lambda answer: text


_STYLES: dict[StyleKind, Callable[[Random], Style]] = {
    "upper": lambda rng: (choose(rng, _SYSTEMS["upper"]), str.upper),
    "lower": lambda rng: (choose(rng, _SYSTEMS["lower"]), str.lower),
    "end": _with_end,
    "start": _with_start,
    "always": _always,
}


def tool_test(rng: Random, mode: ToolMode | None = None, kind: Kind | None = None) -> Dialogue:
    """A dialogue with tools: one call, two, an answer from results, tools not needed, or nothing to be done."""
    dialogue = Dialogue(rng)
    offer_tools(rng, dialogue, kind if chance(rng, 0.7) or mode in ("call", "two") else None)
    if chance(rng, 0.3):
        dialogue.system = choose(rng, _SYSTEMS["generic"])
    modes: list[ToolMode] = [*["call"] * 8, *["two"] * 3, *["answer"] * 6, *["chat"] * 4, "refuse"]  # type: ignore[list-item]
    mode = mode or choose(rng, modes)
    for _ in range(choose(rng, [0, 0, 0, 1, 1, 2, 3])):
        if chance(rng, 0.5):
            add_exchange(rng, dialogue, finish=True)
        else:
            dialogue.turn(pick(rng, dialogue))
    if mode == "chat":
        dialogue.turn(pick(rng, dialogue))
    elif mode == "refuse":
        dialogue.add(_unlike_a_tool_request(rng, dialogue))
    else:
        two = mode == "two" if mode != "answer" else chance(rng, 0.2)
        add_exchange(rng, dialogue, two=two, finish=mode == "answer", kind=kind)
    return dialogue


def _unlike_a_tool_request(rng: Random, dialogue: Dialogue) -> Turn:
    marks = [*phrases("unknown")["looks_like_a_tool_request"], "Translate", "Convert"]
    while True:
        turn = knowledge.unknown(rng, dialogue)
        if not any(mark in turn.user for mark in marks):
            return turn


def needle_test(rng: Random, characters: int | None = None) -> Dialogue:
    """A text of about `characters` characters with a fact in it that is asked for, after up to two other turns."""
    dialogue = Dialogue(rng)
    if characters is None:
        characters = _needle_length(rng)
    for _ in range(choose(rng, [0, 0, 0, 1, 2])):
        dialogue.turn(pick(rng, dialogue))
    add_needle(rng, dialogue, characters)
    return dialogue


def _needle_length(rng: Random) -> int:
    point = rng.random()
    if point < 0.5:
        return between(rng, 60, 1200)
    if point < 0.83:
        return between(rng, 1200, 4000)
    return between(rng, 4000, 6000) if point < 0.96 else between(rng, 6000, MOST_CHARACTERS)


_MIX: list[tuple[Callable[[Random], Dialogue], float]] = [
    (chat, 50), (memory_test, 9), (style_test, 11), (tool_test, 25), (needle_test, 7.5),
]  # fmt: skip
_WEIGHTED_MIX = [make for make, weight in _MIX for _ in range(int(weight * 2))]


def pick_kind(rng: Random) -> Callable[[Random], Dialogue]:
    """A kind of dialogue by weight."""
    return choose(rng, _WEIGHTED_MIX)


def any_dialogue(rng: Random) -> Dialogue:
    """A dialogue of the training mix."""
    return pick_kind(rng)(rng)

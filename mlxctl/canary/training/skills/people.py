"""Facts with free names, in free wordings: the user's things, relatives and pets, what he owns, a name told late."""

from __future__ import annotations

from random import Random

from mlxctl.canary.training.dialogue import Dialogue, Question, Turn, as_worded
from mlxctl.canary.training.draws import Draw, between, chance, choose
from mlxctl.canary.training.free_text import code_token
from mlxctl.canary.training.phrases import phrases, words
from mlxctl.canary.training.skills.memory import FACTS, ask_name, tell_another, told
from mlxctl.canary.training.skills.small_talk import free_small_talk
from mlxctl.canary.training.vocabulary import (
    ANIMALS,
    JOBS,
    NOUNS,
    NUMBER_WORDS,
    any_word,
    blended_word,
    city,
    code,
    name,
    number,
    secret_kind,
)
from mlxctl.canary.training.wording import lower_first, worded

_PEOPLE = phrases("people")
_MINE, _RELATIVES, _HAVE = _PEOPLE["mine"], _PEOPLE["relatives"], _PEOPLE["have"]
_FAVOURITE = "favourite "
_ABOUT_RELATIVES: dict[str, Draw[str]] = {
    "name": lambda rng: name(rng) if chance(rng, 0.7) else blended_word(rng).capitalize(),
    "city": city,
    "age": lambda rng: str(between(rng, 1, 99)),
    "job": lambda rng: choose(rng, JOBS) if chance(rng, 0.75) else any_word(rng),
}


def _possession(rng: Random) -> str:
    point = rng.random()
    if point < 0.3:
        return _FAVOURITE + choose(rng, words("favourite_things"))
    if point < 0.55:
        return choose(rng, words("possessions_of_two_words"))
    if point < 0.85:
        return choose(rng, words("possessions"))
    return any_word(rng) + " " + secret_kind(rng) if point < 0.93 else any_word(rng)


def _possession_value(rng: Random, possession: str) -> str:
    point = rng.random()
    if "number" in possession or (possession.endswith(("size", "room", "pin")) and point < 0.6):
        return number(rng) if point < 0.7 else code_token(rng)
    if point < 0.25:
        return any_word(rng).capitalize()
    if point < 0.45:
        return any_word(rng)
    if point < 0.6:
        return code_token(rng)
    if point < 0.7:
        return any_word(rng) + " " + any_word(rng)
    if point < 0.9:
        return name(rng) if point < 0.8 else number(rng)
    return "the " + any_word(rng).capitalize() if point < 0.93 else code(rng)


@as_worded
def tell_possession(rng: Random, dialogue: Dialogue) -> Turn:
    """My wifi password is …"""
    possession = _possession(rng)
    value = _possession_value(rng, possession).rstrip(".!?,;:") or "x"
    spelling = possession.replace("favourite", "favorite") if chance(rng, 0.5) else possession
    if possession in dialogue.questions:
        return free_small_talk(rng, dialogue)

    def ask(rng: Random) -> str:
        if possession.startswith(_FAVOURITE) and chance(rng, 0.35):
            return worded(rng, _MINE["ask_favourite"], thing=possession.removeprefix(_FAVOURITE))
        return worded(rng, _MINE["ask"], key=spelling)

    thought = f"The user told me the {possession} {value}."
    dialogue.questions[possession] = Question(ask, f"Your {possession} is {value}.", thought, value)
    request = worded(rng, _MINE["tell"], 0.35, key=spelling, value=value)
    return Turn(request, f"Got it: your {possession} is {value}.", f"The user tells me the {possession} {value}.")


@as_worded
def tell_relative(rng: Random, dialogue: Dialogue) -> Turn:
    """My sister is called …, alone or with a second fact."""
    relative = choose(rng, words("relatives"))
    about = choose(rng, ["name", "name", "name", "city", "age", "job"])
    value = _ABOUT_RELATIVES[about](rng)
    if f"{relative}'s {about}" in dialogue.questions:
        return free_small_talk(rng, dialogue)
    _remember_relative(dialogue, relative, about, value)
    if about == "name":
        answer, thought = f"{value} is your {relative}.", f"The user told me: {value} is the {relative}."
        question = Question(lambda rng: choose(rng, _PEOPLE["who"]).format(name=value), answer, thought, relative)
        dialogue.questions[f"who {value}"] = question
    request = worded(rng, _RELATIVES[about]["tell"], 0.35, relative=relative, value=value)
    called = f"{relative}'s {about}"
    turn = Turn(request, f"Got it: your {called} is {value}.", f"The user tells me the {called} {value}.")
    if not (chance(rng, 0.22) and request[-1] == "."):
        return turn
    if chance(rng, 0.6):
        return _and_of_the_user(rng, dialogue, turn, f"And the {called} {value}.")
    return _and_more_of(rng, dialogue, turn, relative) if about == "name" else turn


def _remember_relative(dialogue: Dialogue, relative: str, about: str, value: str) -> None:
    called, forms = f"{relative}'s {about}", _RELATIVES[about]["ask"]
    thought = f"The user told me the {called} {value}."
    question = Question(lambda rng: worded(rng, forms, relative=relative), f"Your {called} is {value}.", thought, value)
    dialogue.questions[called] = question


def _and_of_the_user(rng: Random, dialogue: Dialogue, turn: Turn, second_thought: str) -> Turn:
    """The same with a fact about the user, before or after."""
    key = choose(rng, ["name", "city", "dog", "cat", "colour"])
    form, value = tell_another(rng, dialogue, key)
    fact = told(key, value)
    if chance(rng, 0.5) and form[-1] == ".":
        joint = choose(rng, _PEOPLE["and_the_user"])
        rest = lower_first(turn.user) if turn.user[:2] == "My" else turn.user
        return Turn(form[:-1] + joint + rest, f"{fact.answer} {turn.answer}", f"{fact.thought} {second_thought}")
    thought = f"{turn.thought} And the {FACTS[key].called} {value}."
    return Turn(f"{turn.user} {form}", f"{turn.answer} {fact.answer}", thought)


def _and_more_of(rng: Random, dialogue: Dialogue, turn: Turn, relative: str) -> Turn:
    """The same with a second fact about the relative."""
    about = choose(rng, ["city", "age", "job"])
    value = _ABOUT_RELATIVES[about](rng)
    forms = {kind: choose(rng, _PEOPLE["second_fact"][kind]) for kind in ("city", "age", "job")}
    called = f"{relative}'s {about}"
    _remember_relative(dialogue, relative, about, value)
    request = turn.user[:-1] + forms[about].format(value=value)
    return Turn(
        request, f"{turn.answer} Got it: your {called} is {value}.", f"{turn.thought} And the {called} {value}."
    )


def _thing(rng: Random) -> str:
    return choose(rng, ANIMALS[:30] + NOUNS) if chance(rng, 0.7) else any_word(rng)


@as_worded
def tell_count(rng: Random, dialogue: Dialogue) -> Turn:
    """I have 3 cats."""
    things, count = _thing(rng) + "s", between(rng, 2, 30)
    counted = str(count) if chance(rng, 0.75) or count > 20 else NUMBER_WORDS[count]
    owned = f"{counted} {things}"
    if f"have {things}" in dialogue.questions:
        return free_small_talk(rng, dialogue)
    answer, thought = f"You have {counted} {things}.", f"The user told me: {owned}."
    question = Question(lambda rng: worded(rng, _HAVE["ask"], things=things), answer, thought, counted)
    dialogue.questions[f"have {things}"] = question
    request = worded(rng, _HAVE["tell"], 0.35, count=counted, things=things)
    if chance(rng, 0.3) and request[-1] != "?":
        other = _thing(rng)
        others = choose(rng, [f"a {other}", f"one {other}", f"{between(rng, 2, 9)} {other}s"])
        end = request.rfind(things) + len(things)
        request, owned = f"{request[:end]} and {others}{request[end:]}", f"{owned} and {others}"
    return Turn(request, f"Got it: you have {owned}.", f"The user tells me: {owned}.")


@as_worded
def ask_anything_told(rng: Random, dialogue: Dialogue) -> Turn:
    """Asks for one of the dialogue's questions; sometimes for something never told."""
    if dialogue.questions and chance(rng, 0.82):
        key = choose(rng, list(dialogue.questions))
        question = dialogue.questions[key]
        request = question.ask(rng)
        if chance(rng, 0.1) and " " not in key and request[-1] in ".?":
            return Turn(request + choose(rng, _PEOPLE["only_the_answer"]), question.value, question.thought)
        return Turn(request, question.answer, question.thought)
    return _ask_relative_untold(rng, dialogue) if chance(rng, 0.6) else _ask_possession_untold(rng, dialogue)


def _ask_relative_untold(rng: Random, dialogue: Dialogue) -> Turn:
    relative, about = choose(rng, words("relatives")), choose(rng, list(_RELATIVES))
    if any(relative in key for key in dialogue.questions):
        return free_small_talk(rng, dialogue)
    forms = [form for form in _RELATIVES[about]["ask"] if not form.startswith(("Who", "who"))]
    called = f"{relative}'s {about}"
    request = worded(rng, forms, relative=relative)
    return Turn(request, f"I do not know your {called}.", f"The user did not tell me the {called}.")


def _ask_possession_untold(rng: Random, dialogue: Dialogue) -> Turn:
    possession = _possession(rng)
    if possession in dialogue.questions or possession in ("favourite city", "favourite number", "city"):
        return free_small_talk(rng, dialogue)
    request = worded(rng, _MINE["ask"][:11], key=possession)
    return Turn(request, f"I do not know your {possession}.", f"The user did not tell me the {possession}.")


@as_worded
def name_at_last(rng: Random, dialogue: Dialogue) -> Turn:
    """The name asked too early, then told."""
    if "name" in dialogue.facts or dialogue.style:
        return free_small_talk(rng, dialogue)
    dialogue.turn(ask_name)
    value = dialogue.facts["name"] = name(rng)
    return Turn(worded(rng, _PEOPLE["name_at_last"], 0.2, name=value), *told("name", value))

"""From rows to questions: the one renderer, for the teacher, for training and for scoring.

What belongs here: how an item, a history and a profile are put into words. Everything that comes from data is quoted
on one line, so a title cannot open a section of its own. What doesn't belong: tokens and chat formats (`chat`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reasoningrec_assets.prompts import templates
from reasoningrec_assets.prompts.text import one_line

MAX_FIELD = 300
"""Longest title or genre list in characters; some real titles are dumps of whole pages."""


@dataclass(frozen=True)
class Item:
    """What a prompt may say of an item; None or empty where it is not known."""

    title: str
    brand: str | None = None
    price: str | None = None
    genres: tuple[str, ...] = ()
    year: int | None = None
    description: str = ""


@dataclass(frozen=True)
class Window:
    """One example: the tagged history, the target, and the profile where there is one."""

    history: tuple[tuple[Item, bool], ...]
    target: Item
    profile: str = ""


def item_text(item: Item) -> str:
    """An item on one line: title and year, then genres, brand, price and description, each only where it exists."""
    parts = [f'"{_field(item.title)}"' + (f" ({item.year})" if item.year else "")]
    if item.genres:
        parts.append(_field(", ".join(item.genres)))
    if item.brand:
        parts.append(f"by {_field(item.brand)}")
    if item.price:
        parts.append(f"price {_field(item.price)}")
    text = "; ".join(parts)
    return f"{text}. {one_line(item.description)}" if item.description else text


def history_lines(history: Sequence[tuple[Item, bool]]) -> str:
    """A history as one line per item, oldest first, each tagged liked or disliked."""
    return "\n".join(f"- {'liked' if liked else 'disliked'}: {item_text(item)}" for item, liked in history)


def description_prompt(item: Item, *, kind: str, words: int) -> str:
    """The question that asks the teacher to describe one item."""
    return templates.ITEM_DESCRIPTION.fill(kind=kind, words=words, item=item_text(item))


def profile_prompt(history: Sequence[tuple[Item, bool]], *, kind: str, words: int) -> str:
    """The question that asks the teacher for a user's profile."""
    return templates.USER_PROFILE.fill(kind=kind, words=words, history=history_lines(history))


def reasoning_prompt(window: Window, *, liked: bool, kind: str, words: int) -> str:
    """The question that asks the teacher why a known label came about (paper section 3, label-conditioned)."""
    return templates.REASONING.fill(
        kind=kind,
        words=words,
        profile=_profile_section(window.profile),
        history=history_lines(window.history),
        target=item_text(window.target),
        verdict="liked" if liked else "disliked",
    )


def student_record(window: Window, *, liked: bool, reasoning: str, kind: str) -> dict[str, str]:
    """Instruction, input and output of one student row.

    The label comes before the reasoning on purpose: with it last, teacher forcing shows the model the reasoning, which
    gives the label away, and the validation AUC saturates in the first epoch (paper section 3).
    """
    return {
        "instruction": templates.STUDENT_INSTRUCTION.fill(kind=kind),
        "input": templates.STUDENT_INPUT.fill(
            kind=kind,
            profile=_profile_section(window.profile),
            history=history_lines(window.history),
            target=item_text(window.target),
        ),
        "output": student_answer(liked=liked, reasoning=reasoning),
    }


def student_answer(*, liked: bool, reasoning: str) -> str:
    """The answer that the student learns: the prediction, then the reasoning on one line where there is one."""
    return templates.STUDENT_OUTPUT.fill(answer=templates.ANSWERS[liked], reasoning=one_line(reasoning)).rstrip()


def student_message(record: Mapping[str, str]) -> str:
    """The user's turn of a student row; training and scoring both call this."""
    return f"{record['instruction']}\n\n{record['input']}"


def drop_oldest(text: str) -> str | None:
    """The same input without its oldest history line; None where only one is left.

    Used where a row is longer than the model's context: the question and the target always survive.
    """
    lines = text.split("\n")
    tagged = [number for number, line in enumerate(lines) if line.startswith(("- liked: ", "- disliked: "))]
    if len(tagged) < 2:
        return None
    del lines[tagged[0]]
    return "\n".join(lines)


def _profile_section(profile: str) -> str:
    return f"User profile: {one_line(profile)}\n\n" if profile else ""


def _field(value: str) -> str:
    text = one_line(value)
    return text if len(text) <= MAX_FIELD else text[: MAX_FIELD - 1] + "…"

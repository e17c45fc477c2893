"""From rows to questions: the one renderer, for the teacher, for training and for scoring. Tokens are made in `chat`.

Everything that comes from data is quoted on one line, so a title cannot open a section of its own.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reasoningrec_assets.prompts.templates import ANSWERS, INSTRUCTIONS, TEXTS, Reasons
from reasoningrec_assets.prompts.text import one_line, plain_text

MAX_FIELD = 300  # longest title or genre list in characters; some real titles are dumps of whole pages
_HISTORY_LINE = re.compile(r"^- (?:dis)?liked: .*\n?", re.MULTILINE)
# both labels at once, on one line: joined by a word or a stroke, or the second one with nothing behind it
_BOTH = r"[^\w\n]*(?:(?:(?:and/)?or|and)\b|[/|])[^\w\n]*(?:yes|no)\b|[^\w\n]+(?:yes|no)\b[^\w\n]*(?:\n|$)"
_PREDICTION = re.compile(rf"\W*prediction\W+(?P<answer>yes|no)\b(?!{_BOTH})[^\w\x22“«]*(?P<rest>.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Item:
    """What a prompt may say of an item; None or empty where it is not known."""

    title: str
    brand: str | None = None
    price: str | None = None
    genres: tuple[str, ...] = ()
    year: int | None = None
    description: str = ""
    about: str | None = None  # its seller's words, for the teacher's description alone


@dataclass(frozen=True)
class Window:
    """One example: the tagged history, the target, and the profile where there is one."""

    history: tuple[tuple[Item, bool], ...]
    target: Item
    profile: str = ""


def item_text(item: Item) -> str:
    """An item on one line: title and year, then genres, brand, price and description, each only where it exists."""
    text = f'"{_field(item.title)}"' + (f" ({item.year})" if item.year else "")
    text += f"; {_field(', '.join(item.genres))}" if item.genres else ""
    text += f"; by {_field(item.brand)}" if item.brand else ""
    text += f"; price {_field(item.price)}" if item.price else ""
    return text + (f". {one_line(item.description)}" if item.description else "")


def history_lines(history: Sequence[tuple[Item, bool]]) -> str:
    """A history as one line per item, oldest first, each tagged liked or disliked."""
    return "\n".join(f"- {'liked' if liked else 'disliked'}: {item_text(item)}" for item, liked in history)


def description_prompt(item: Item, *, kind: str, words: int, reviews: Sequence[str] = ()) -> str:
    """The question that asks the teacher to describe one item, from its seller's words and its reviews where there are any."""
    question = TEXTS["item_description"].format(kind=kind, words=words, item=item_text(item))
    # a double quote inside would end the quotation
    about, *quoted = (text.replace('"', "'") for text in (_field(item.about or ""), *map(one_line, reviews)))
    question += TEXTS["item_about"].format(about=about) if about else ""
    lines = "\n".join(f'- "{review}"' for review in quoted)
    return question + (TEXTS["item_reviews"].format(reviews=lines) if reviews else "")


def profile_prompt(history: Sequence[tuple[Item, bool]], *, kind: str, words: int) -> str:
    """The question that asks the teacher for a user's profile."""
    return TEXTS["user_profile"].format(kind=kind, words=words, history=history_lines(history))


def reasoning_prompt(window: Window, *, liked: bool, kind: str, words: int) -> str:
    """The question that asks the teacher why a known label came about (paper section 3, label-conditioned)."""
    return TEXTS["reasoning"].format(words=words, verdict="liked" if liked else "disliked", **_shown(window, kind))


def blind_prompt(window: Window, *, kind: str, words: int) -> str:
    """The question that has the teacher predict the label itself before it gives its reasons."""
    return TEXTS["reasoning_blind"].format(words=words, **_shown(window, kind))


def parse_answer(text: str) -> tuple[bool | None, str]:
    """The label that an answer predicts, None where it says neither or both, and the reasoning after it."""
    match = _PREDICTION.match(text)
    return (None, text) if match is None else (match["answer"].lower() == ANSWERS[True].lower(), match["rest"].strip())


def student_record(
    window: Window, *, liked: bool, reasoning: str, kind: str, reasons: Reasons = "after", lists: bool = False, hints: str = ""
) -> dict[str, str]:
    """Instruction, input and output of one student row, in the form that its variant asks for; `hints` end the input.

    With `lists` it is TALLRec's: titles alone, first those that the user liked, then those that the user did not.
    The reason comes after the label, in the paper's form, on purpose: where it comes before, teacher forcing shows the model
    a text that gives the label away, and the validation AUC saturates in the first epoch (paper section 3).
    """
    if lists:
        titled = [(_bare(item), tag) for item, tag in window.history]
        window = Window(tuple(sorted(titled, key=lambda pair: not pair[1])), _bare(window.target))
    order = "those liked first" if lists else "oldest first"
    asked = TEXTS["student_input"].format(hints=hints, order=order, **_shown(window, kind))
    answer = student_answer(liked=liked, reasoning=reasoning if reasons else "", first=reasons == "before")
    return {"instruction": TEXTS[INSTRUCTIONS[reasons]].format(kind=kind), "input": asked, "output": answer}


class _Share(float):
    """A figure that formats as the word at its place where a template has words between bars, which part [0, 1] evenly."""

    def __format__(self, spec: str) -> str:
        words = spec.split("|")
        return words[min(int(self * len(words)), len(words) - 1)] if len(words) > 1 else super().__format__(spec)


def grounding(figures: Mapping[str, float], kind: str) -> str:
    """What is known of the floors' figures in words: ``likes`` of ``shown``, the target's smoothed ``share``, its ``expected`` like."""
    said = {"shown": "hint_history", "share": "hint_item", "expected": "hint_factorisation"}
    known = {name: _Share(value) for name, value in figures.items()}
    return "".join(TEXTS[template].format(kind=kind, **known) for figure, template in said.items() if figure in known)


def student_answer(*, liked: bool, reasoning: str, first: bool = False) -> str:
    """The answer that the student learns: the prediction, then the reasoning on one line where there is one, or `first`."""
    text = TEXTS["reason_first_output" if first else "student_output"]
    return text.format(answer=ANSWERS[liked], reasoning=one_line(reasoning)).strip()


def student_message(record: Mapping[str, str]) -> str:
    """The user's turn of a student row; training and scoring both call this."""
    return f"{record['instruction']}\n\n{record['input']}"


def drop_oldest(text: str) -> str | None:
    """A student row's input without its oldest history line, for rows that are too long; None where only one is left."""
    return _HISTORY_LINE.sub("", text, count=1) if len(_HISTORY_LINE.findall(text)) > 1 else None


def swap_history(text: str, donor: str) -> str | None:
    """A student row's input with the profile and history of another, `donor`, before its own target; None where either has none."""
    own, other = ([line.end() for line in _HISTORY_LINE.finditer(found)] for found in (text, donor))
    return donor[: other[-1]] + text[own[-1] :] if own and other else None


def _shown(window: Window, kind: str) -> dict[str, str]:
    """What every question about a window shows of it."""
    profile = f"User profile: {one_line(window.profile)}\n\n" if window.profile else ""
    return {"kind": kind, "profile": profile, "history": history_lines(window.history), "target": item_text(window.target)}


def fields_cut(item: Item) -> int:
    """How many of an item's fields are too long to be shown whole."""
    fields = (item.title, ", ".join(item.genres), item.brand or "", item.price or "", item.about or "")
    return sum(len(plain_text(field)) > MAX_FIELD for field in fields)


def _bare(item: Item) -> Item:
    return Item(item.title, year=item.year)


def _field(value: str) -> str:
    text = plain_text(value)
    return text if len(text) <= MAX_FIELD else text[: MAX_FIELD - 1] + "…"

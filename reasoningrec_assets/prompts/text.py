"""Small repairs of text: what a model or a raw file may hold and a prompt or table must not. Nothing depends on a model."""

import html
import re
import unicodedata

_TAG = re.compile(r"</?[a-zA-Z!][^<>]{0,200}>")
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s|$)")
# "<|im_end|>", "<end_of_turn>", "</s>", "[/INST]", "<<SYS>>": written in a title or a review they would end the user's turn
_CONTROL_TOKEN = re.compile(r"<(?=\||[^<>\s]{1,60}>|<?/?SYS)|\[(?=/?INST\])")


def unmarked(text: str) -> str:
    """The text, chat formats' own tokens in it broken up by a blank."""
    return _CONTROL_TOKEN.sub(lambda match: f"{match.group()} ", text)


def one_line(text: str) -> str:
    """The text on one line: no control characters, one blank per run of white space, and chat formats' own tokens broken up."""
    text = unmarked(text)
    if not text.isprintable():  # nearly all text is, and looking at each character costs a hundred times as much
        text = "".join(" " if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} else char for char in text)
    return " ".join(text.split())


def plain_text(text: str) -> str:
    """Text that was written for a web page, as a person reads it there: without tags, and with its entities resolved."""
    return one_line(_TAG.sub(" ", html.unescape(text)))


def trim_to_sentence(text: str) -> str:
    """The text up to its last full sentence, else its last full clause, closed with a full stop; empty where none ends."""
    # a student that trains on answers cut in half a sentence, at the token limit, learns to stop in the middle
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    if ends:
        return text[: ends[-1]].strip()
    clause = max(text.rfind(mark) for mark in (", ", "; ", ": "))
    return f"{text[:clause].strip()}." if clause > 0 else ""

"""Small repairs of text: what a model or a raw file may hold and a prompt or table must not.

What belongs here: functions from text to text. What doesn't: anything that depends on a model.
"""

from __future__ import annotations

import re
import unicodedata

_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s|$)")


# "<|im_end|>", "</s>", "[/INST]", "<<SYS>>": written in a title or a review they would end the user's turn
_CONTROL_TOKEN = re.compile(r"<(?=\||/?s>|<?/?SYS)|\[(?=/?INST\])")


def one_line(text: str) -> str:
    """The text as data on one line: no control characters, runs of white space made one blank, control tokens broken.

    The tokens that chat formats are written in get a blank after their first character, so that they stay text.
    """
    text = _CONTROL_TOKEN.sub(lambda match: f"{match.group()} ", text)
    kept = "".join(" " if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} else char for char in text)
    return " ".join(kept.split())


def trim_to_sentence(text: str) -> str:
    """The text up to its last full sentence; where no sentence ends, up to its last full clause, closed with a full stop.

    An answer cut at the token limit ends in half a sentence, and a student that trains on those learns to stop in the
    middle. Empty where not even a clause ends.
    """
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    if ends:
        return text[: ends[-1]].strip()
    clause = max(text.rfind(mark) for mark in (", ", "; ", ": "))
    return f"{text[:clause].strip()}." if clause > 0 else ""

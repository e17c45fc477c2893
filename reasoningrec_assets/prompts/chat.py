"""The model's own chat format in tokens, shared by training, scoring and generation: their prompts cannot differ by a blank."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.prompts.render import student_answer
from reasoningrec_assets.prompts.templates import ANSWERS

# a template that tells the day tells this one: what a student is asked tomorrow is what it learnt today
_RENDERED: Any = {"tokenize": False, "strftime_now": date(2024, 7, 26).strftime}


@dataclass(frozen=True)
class LabelTokens:
    """Where the label stands in an answer: the token ids before it, the same for both labels, and what may stand for each."""

    prefix: tuple[int, ...]
    yes: tuple[int, ...]  # the token of the label word first, then those of its other spellings
    no: tuple[int, ...]


class Chat:
    """A transformers tokenizer that has a chat template and an end-of-sequence token."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._recent: dict[str, list[int]] = {}  # two texts' tokens, as an answer's are those of its prompt and more

    def prompt(self, message: str, prefill: str = "") -> list[int]:
        """Token ids up to where the assistant writes, or goes on after what the template puts before answers, and `prefill`."""
        word = ANSWERS[True]
        opened = self.ids(self._opened(message))
        return opened + self._after(message, self._turn(message, word).partition(word)[0] + prefill) if prefill else opened

    def answer(self, message: str, answer: str) -> list[int]:
        """Token ids of the assistant's turn and its end; PermanentError where the template changes the prompt before it."""
        ids, end = self._after(message, self._turn(message, answer)), int(self.tokenizer.eos_token_id)
        return [*ids[: ids.index(end)], end] if end in ids else [*ids, end]

    def _after(self, message: str, text: str) -> list[int]:
        """Token ids of text behind the opened turn, as the whole has them: tokenizers such as Llama-2's begin a text otherwise."""
        opened = self._opened(message)
        before, whole = self.ids(opened), self.ids(opened + text)
        return whole[len(before) :] if whole[: len(before)] == before else self.ids(text)

    def _turn(self, message: str, answer: str) -> str:
        opened = self._opened(message)
        turns = [{"role": "user", "content": message}, {"role": "assistant", "content": answer}]
        whole: str = self.tokenizer.apply_chat_template(turns, **_RENDERED)
        if not whole.startswith(opened):
            problem = "the prompt of a conversation with an answer does not start with the prompt without one"
            problem += " (a template that thinks aloud does this)"
            remedy = "Use a model or a chat_template.jinja whose assistant turn directly follows the generation prompt"
            raise PermanentError("render an answer", where=self.tokenizer.name_or_path, problem=problem, remedy=remedy)
        return whole[len(opened) :]

    def label_tokens(self, message: str = "?", begin: str = "") -> LabelTokens:
        """The single tokens at which answers part that `begin` alike, in all spellings of `render.parse_answer`; else PermanentError."""
        told = {liked: begin + student_answer(liked=liked, reasoning="Because.") for liked in (True, False)}
        written = {liked: self.answer(message, answer) for liked, answer in told.items()}
        yes, no = written.values()
        split = next((place for place, (a, b) in enumerate(zip(yes, no, strict=False)) if a != b), None)
        unknown = self.tokenizer.unk_token_id
        if split is None or yes[split + 1 :] != no[split + 1 :] or unknown in {yes[split], no[split]}:
            shown = slice(None) if split is None else slice(split, split + 3)
            pieces = [self.tokenizer.convert_ids_to_tokens(ids[shown]) for ids in (yes, no)]
            problem = f"Yes and No are not one token each that differ: the answers go on with {pieces[0]} and {pieces[1]}"
            remedy = "Use a model whose tokenizer holds each label word as one token, or change ANSWERS in prompts/templates.py"
            raise PermanentError("resolve the label tokens", where=self.tokenizer.name_or_path, problem=problem, remedy=remedy)
        forms: dict[bool, tuple[int, ...]] = {}
        for liked, ids in written.items():
            word = ANSWERS[liked]
            spelled = (self.ids(blank + form) for form in (word, word.lower(), word.upper()) for blank in (" ", ""))
            # spellings that the tokenizer does not know would be one and the same token for both
            known = (tokens[0] for tokens in spelled if len(tokens) == 1 and tokens != [unknown])
            forms[liked] = tuple(dict.fromkeys([ids[split], *known]))
        return LabelTokens(tuple(yes[:split]), forms[True], forms[False])

    def decode(self, ids: list[int]) -> str:
        """Text of generated token ids, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def _opened(self, message: str) -> str:
        turns = [{"role": "user", "content": message}]
        return self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, **_RENDERED)

    def ids(self, text: str) -> list[int]:
        """Token ids of text inside a turn, such as the beginning of an answer."""
        # the template writes the special tokens itself; those spelled in data are broken up by `text.one_line`
        if text not in self._recent:
            found = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            self._recent = dict([*self._recent.items()][-1:]) | {text: found}
        return [*self._recent[text]]

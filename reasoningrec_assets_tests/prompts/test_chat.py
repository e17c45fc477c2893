import pytest
import transformers

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.models.store import load_tokenizer
from reasoningrec_assets.prompts.chat import Chat
from reasoningrec_assets_tests.tiny import tiny_tokenizer


@pytest.fixture
def chat(tiny_model):
    return Chat(load_tokenizer(tiny_model))


def test_prompt_and_answer_together_are_the_templates_own_tokens(chat):
    message, answer = "Will they?", "Prediction: Yes\nBecause."
    turns = [{"role": "user", "content": message}, {"role": "assistant", "content": answer}]
    whole = chat.tokenizer.apply_chat_template(turns, tokenize=False).rstrip("\n")
    assert chat.tokenizer.decode(chat.prompt(message) + chat.answer(message, answer)) == whole


def test_the_answer_ends_with_the_end_of_turn(chat):
    assert chat.answer("a", "Prediction: No")[-1] == chat.tokenizer.eos_token_id
    assert chat.answer("a", "Prediction: No").count(chat.tokenizer.eos_token_id) == 1


def test_label_tokens_are_found_in_the_answer(chat):
    labels = chat.label_tokens()
    assert chat.tokenizer.decode([*labels.prefix, labels.yes[0]]) == "Prediction: Yes"
    assert chat.tokenizer.decode([*labels.prefix, labels.no[0]]) == "Prediction: No"


def test_a_label_word_of_two_tokens_is_refused_by_name():
    # without the words in its training text the tokenizer has no token for either
    with pytest.raises(PermanentError, match="not one token each") as caught:
        Chat(tiny_tokenizer(words="")).label_tokens()
    assert "ANSWERS" in str(caught.value)


def test_a_folder_without_a_chat_template_is_refused(model_copy):
    (model_copy / "chat_template.jinja").unlink()
    with pytest.raises(PermanentError, match="no chat template") as caught:
        load_tokenizer(model_copy)
    assert str(model_copy) in str(caught.value)


def test_a_template_that_thinks_aloud_is_refused(chat):
    thinking = transformers.AutoTokenizer.from_pretrained(chat.tokenizer.name_or_path)
    thinking.chat_template = chat.tokenizer.chat_template.replace(
        "'<|assistant|>\n' }}{% endif %}", "'<|assistant|>\n<think>' }}{% endif %}"
    )
    with pytest.raises(PermanentError, match="thinks aloud"):
        Chat(thinking).answer("a", "b")

import pytest
import tokenizers
import transformers

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.models.store import load_tokenizer
from reasoningrec_assets.prompts.chat import Chat, LabelTokens
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


def test_label_words_that_share_their_first_token_are_refused_by_name(monkeypatch, chat):
    monkeypatch.setattr("reasoningrec_assets.prompts.render.ANSWERS", {True: "liked", False: "liking"})
    with pytest.raises(PermanentError, match="not one token each"):
        chat.label_tokens()


def test_spellings_that_the_tokenizer_does_not_know_count_for_neither_label():
    core = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"?": 0, "Yes": 1, "No": 2, "Prediction:": 3, "<end>": 4}, unk_token="?")
    )
    core.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    template = "{% for message in messages %}{{ message['content'] + ' <end> ' }}{% endfor %}"
    known = {"tokenizer_object": core, "eos_token": "<end>", "unk_token": "?", "chat_template": template}
    labels = Chat(transformers.PreTrainedTokenizerFast(**known)).label_tokens()
    assert labels == LabelTokens(prefix=(3,), yes=(1,), no=(2,))


def adding(chat, added):
    """A chat whose template puts that before every answer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(chat.tokenizer.name_or_path)
    start = "{{ '<|assistant|>\n" + added + "' + message['content'] + '<|end|>' + '\n' }}{% else %}"
    tokenizer.chat_template = chat.tokenizer.chat_template.replace(
        "{{ '<|' + message", "{% if message['role'] == 'assistant' %}" + start + "{{ '<|' + message", 1
    ).replace("{% endfor %}", "{% endif %}{% endfor %}", 1)
    return Chat(tokenizer)


@pytest.mark.parametrize("added", ["", " ", "<think>\n\n</think>\n\n"])
@pytest.mark.parametrize("reason", ["They like drama.\n", ""])
def test_a_label_after_a_reason_is_asked_for_in_the_tokens_that_training_has(chat, added, reason):
    chat = adding(chat, added)
    learnt = {label: chat.prompt("?") + chat.answer("?", f"{reason}Prediction: {label}") for label in ("Yes", "No")}
    labels = chat.label_tokens("?", reason)
    asked = [*chat.prompt("?"), *labels.prefix]
    assert [learnt["Yes"][: len(asked) + 1], learnt["No"][: len(asked) + 1]] == [[*asked, labels.yes[0]], [*asked, labels.no[0]]]


def test_a_template_that_tells_the_day_asks_the_same_on_every_day(chat):
    tokenizer = transformers.AutoTokenizer.from_pretrained(chat.tokenizer.name_or_path)
    tokenizer.chat_template = "{{ strftime_now('%f %d %b %Y') }}" + chat.tokenizer.chat_template
    first = Chat(tokenizer).prompt("?"), Chat(tokenizer).answer("?", "Prediction: Yes")
    assert (Chat(tokenizer).prompt("?"), Chat(tokenizer).answer("?", "Prediction: Yes")) == first


def test_a_tokenizer_that_begins_every_text_with_a_blank_answers_in_the_templates_tokens():
    core = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    blank = tokenizers.normalizers.Replace(" ", "_")
    core.normalizer = tokenizers.normalizers.Sequence([tokenizers.normalizers.Prepend("_"), blank])
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=1, special_tokens=["<unk>", "</s>"], show_progress=False)
    core.train_from_iterator(["[INST] a film [/INST] Prediction: Yes", "Prediction: No", "Because of the list"] * 20, trainer)
    template = (
        "{% for m in messages %}{{ '[INST] ' + m['content'] + ' [/INST]' if m['role'] == 'user' else ' ' + m['content'] + '</s>' }}"
        "{% endfor %}"
    )
    known = {"tokenizer_object": core, "eos_token": "</s>", "unk_token": "<unk>", "chat_template": template}
    chat = Chat(transformers.PreTrainedTokenizerFast(**known))
    turns = [{"role": "user", "content": "a film"}, {"role": "assistant", "content": "Prediction: Yes Because"}]
    whole = chat.tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    assert chat.prompt("a film") + chat.answer("a film", "Prediction: Yes Because") == whole
    assert whole[: len(begun := chat.prompt("a film", "Prediction: Yes"))] == begun


@pytest.mark.parametrize("added", [" ", "<think>\n\n</think>\n\n"])
def test_what_a_template_adds_before_an_answer_stands_before_its_beginning_too(chat, added):
    chat, begun, rest = adding(chat, added), "Prediction: Yes\n", "Because of the list."
    whole = chat.prompt("Will they?") + chat.answer("Will they?", begun + rest)
    prompt = chat.prompt("Will they?", begun)
    assert chat.decode(prompt) == chat.decode(whole[: len(prompt)])
    assert chat.decode(whole).startswith(chat.decode(chat.prompt("Will they?")) + added + begun)


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

"""A pipeline small enough to run in seconds: a made-up MovieLens, random models of two layers, and the profile that names them."""

from __future__ import annotations

import json
import random
from pathlib import Path

WORDS = ["the", "user", "likes", "dislikes", "dramas", "comedies", "slow", "films", "because", "funny", "##s", "."]
"""Vocabulary of the tiny encoder."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def tiny_tokenizer(words: str = " Yes No"):
    """A byte-level tokenizer whose merges hold the label words."""
    import tokenizers
    import transformers

    core = tokenizers.Tokenizer(tokenizers.models.BPE())
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>", "<|pad|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([f"Prediction:{words} liked: disliked: user movie the"] * 50, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>", chat_template=CHAT_TEMPLATE
    )


def make_model(folder: Path) -> Path:
    """A random Llama of two layers with a chat template, as a model folder."""
    import torch
    import transformers

    tokenizer = tiny_tokenizer()
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        initializer_range=0.2,
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():  # a louder end of turn: most answers end within a few tokens, where a random model never would
        model.lm_head.weight[tokenizer.eos_token_id] *= 4
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_encoder(folder: Path) -> Path:
    """Folder of a random BertModel with two layers and a WordPiece tokenizer that claims no length limit."""
    import torch
    from transformers import BertConfig, BertModel

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}))
    return folder


def write_movielens(folder: Path, *, users: int = 24, movies: int = 40, seed: int = 7) -> None:
    """Write a made-up rating set in the u.data and u.item layout; no line of it comes from MovieLens."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for user in range(1, users + 1):
        taste = draw.random()
        for step, movie in enumerate(draw.sample(range(1, movies + 1), 24)):
            rating = 4 + (draw.random() < 0.5) if draw.random() < taste else 1 + draw.randrange(3)
            lines.append(f"{user}\t{movie}\t{rating}\t{880_000_000 + user * 1000 + step}")
    draw.shuffle(lines)
    (folder / "u.data").write_text("\n".join(lines) + "\n", encoding="latin-1")
    flags = ["0|" * 5 + "1|" + "0|" * 12 + "0", "0|" * 8 + "1|" + "0|" * 9 + "0"]
    (folder / "u.item").write_text(
        "\n".join(
            f"{movie}|Café number {movie} (19{60 + movie % 40})|01-Jan-1995||http://example.org|{flags[movie % 2]}"
            for movie in range(1, movies + 1)
        )
        + "\n",
        encoding="latin-1",
    )


TINY_PROFILE = """
[item_descriptions]
{teacher}
[user_profiles]
{teacher}
[reasoning_labels]
{teacher}
[sampling]
k = 8
valid_rows = 8
explained_rows = 12
seed = 1
[training]
base_model = "{model}"
lora_rank = 2
lora_alpha = 4
lora_dropout = 0.05
target_modules = ["q_proj", "v_proj"]
learning_rate = 1e-2
batch_size = 4
tokens_per_micro_batch = 4096
epochs = 1
patience = 1
max_tokens = 4000
seed = 1
[scoring]
tokens_per_batch = 16384
explanation_tokens = 16
batch_size = 8
[evaluation]
encoder = "{encoder}"
encoder_layer = 1
replicates = 50
seed = 1
"""

TEACHER = """model = "{model}"
words = 10
max_new_tokens = 16
temperature = 0.0
top_p = 1.0
seed = 1
batch_size = 16
chunk_size = 16
max_failed_share = 0.0"""


def write_profile(path: Path, model: Path, encoder: Path) -> None:
    """A profile that runs every model step on these two models."""
    path.write_text(TINY_PROFILE.format(teacher=TEACHER.format(model=model), model=model, encoder=encoder))

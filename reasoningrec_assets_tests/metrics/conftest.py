"""A BERT of a few thousand random weights, so that BERTScore runs in milliseconds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["the", "user", "likes", "dislikes", "dramas", "comedies", "slow", "films", "because", "funny", "##s", "."]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random BertModel with two layers and a WordPiece tokenizer that claims no length limit."""
    import torch
    from transformers import BertConfig, BertModel

    # The name holds "t5" on purpose: bert_score would load it as a T5 encoder.
    folder = tmp_path_factory.mktemp("bert") / "dt5f"
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

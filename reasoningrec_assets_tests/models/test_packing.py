import random
from unittest.mock import Mock

import pytest
import torch

from reasoningrec_assets.errors import PermanentError
from reasoningrec_assets.models import packing
from reasoningrec_assets.models.store import load_causal_model

DRAW = random.Random(3)


def tokens(number):
    return [DRAW.randrange(20, 60) for _ in range(number)]


def families():
    """Rows as a recommendation run has them: one instruction, histories of several users, some targets for each."""
    instruction = tokens(24)
    users = [instruction + tokens(40) for _ in range(3)]
    return [user + tokens(9) for user in users for _ in range(4)]


ROWS = {
    "nothing in common": [tokens(30), tokens(7), tokens(1)],
    "families": families(),
    "twice the same row": [row := tokens(40), row, row[:20], row[:17] + tokens(3)],
    "each goes on from the one before": [(whole := tokens(400))[: 40 * at] + tokens(30) for at in range(1, 10)] + [whole],
}


@pytest.mark.parametrize(("dtype", "rtol", "atol"), [("float32", 1e-4, 1e-5), ("bfloat16", 0.02, 0.1)])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_a_packed_row_has_the_hidden_states_that_it_has_alone(tiny_model, rows, dtype, rtol, atol):
    model = load_causal_model(tiny_model, dtype, "cpu")
    packed = packing.pack(rows, "cpu")
    with torch.inference_mode():
        states = packing.hidden_states(model, packed, "cpu")
        for row, places in zip(rows, packed.places, strict=True):
            assert [packed.ids[place] for place in places] == row
            alone = model.get_decoder()(input_ids=torch.tensor([row])).last_hidden_state[0]
            torch.testing.assert_close(states[places], alone, rtol=rtol, atol=atol)


def test_attention_by_two_products_has_the_values_and_the_gradients_of_sdpa():
    query, key, value = (torch.randn(1, heads, length, 8, requires_grad=True) for heads, length in ((6, 5), (2, 9), (2, 9)))
    seen = torch.ones(5, 9, dtype=torch.bool).tril(4)
    added = torch.zeros(5, 9).masked_fill(~seen, -torch.inf)
    found = packing._weighted(query, key, value, added, 0.3)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(*(torch.autograd.grad((x**2).sum(), (query, key, value)) for x in (found, expected)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_what_rows_begin_with_is_laid_once():
    rows = families()
    assert len(packing.pack(rows, "cpu").ids) == 24 + 3 * 40 + 12 * 9
    assert len(packing.pack([row[:40] for row in rows[:2]], "cpu").ids) == 40


def test_pieces_are_attended_in_one_call_where_that_costs_less_than_a_call_for_each():
    packed = packing.pack(families(), "cpu")
    # the instruction, and each of three users' history with the four targets after it: all in one
    assert packed.paths == [(0,)]
    assert packed.pieces == [[(24, None), *[piece for at in (1, 6, 11) for piece in [(40, 0), *[(9, at)] * 4]]]]
    length = round(packing.CALL["cpu"] ** 0.5)
    short, long = ([tokens(length // share) for _ in range(5)] for share in (2, 1))
    assert packing.pack(short, "cpu").pieces == [[(len(row), None) for row in short[:4]], [(len(short[4]), None)]]
    assert packing.pack(long, "cpu").pieces == [[(len(row), None)] for row in long]
    # a card takes longer over a call, and less over a pair
    assert packing.pack(short, "cuda:0").pieces == [[(len(row), None) for row in short]]
    # a beginning too long to stand among what goes on from it, and the ends of three rows, which stand together
    begun = tokens(20 * length)
    packed = packing.pack([begun + tokens(9) for _ in range(3)], "cpu")
    assert (packed.paths, packed.pieces) == ([(0,), (0, 1)], [[(len(begun), None)], [(9, None)] * 3])


def test_rows_of_which_each_begins_with_the_one_before_are_laid_at_any_depth(monkeypatch):
    monkeypatch.setattr(packing, "SHORTEST", 1)
    rows = [list(range(length)) for length in range(1, 1200)]
    packed = packing.pack(rows[::-1], "cpu")
    assert len(packed.ids) == len(rows[-1])
    assert [len(places) for places in packed.places] == [len(row) for row in rows[::-1]]


def test_long_rows_are_attended_without_a_matrix_of_their_square(tiny_model, monkeypatch):
    model, rows = load_causal_model(tiny_model, "bfloat16", "cpu"), [tokens(packing.MOST_WEIGHTED + more) for more in (0, 1)]
    monkeypatch.setattr(packing, "_weighted", weighted := Mock(side_effect=packing._weighted))
    with torch.inference_mode():
        for row, often in zip(rows, (model.config.num_hidden_layers, 0), strict=True):
            weighted.reset_mock()
            found = packing.hidden_states(model, packing.pack([row], "cpu"), "cpu")
            assert weighted.call_count == often
            alone = model.get_decoder()(input_ids=torch.tensor([row])).last_hidden_state[0]
            torch.testing.assert_close(found, alone, rtol=0.02, atol=0.1)


def test_packs_stay_within_their_tokens_and_hold_every_row_once():
    rows = [*families(), *(tokens(DRAW.randrange(1, 90)) for _ in range(50))]
    groups = packing.packs_by_tokens(rows, 128)
    assert sorted(index for group in groups for index in group) == list(range(len(rows)))
    assert all(len(group) == 1 or len(packing.pack([rows[index] for index in group], "cpu").ids) <= 128 for group in groups)
    assert packing.packs_by_tokens([], 128) == []


def test_a_model_that_looks_back_over_less_than_a_row_is_refused(tiny_model):
    model = load_causal_model(tiny_model, "float32", "cpu")
    model.get_decoder().config.sliding_window = 16
    with pytest.raises(PermanentError, match="looks back over 16 tokens"):
        packing.hidden_states(model, packing.pack([tokens(17)], "cpu"), "cpu")
    packing.hidden_states(model, packing.pack([tokens(16)], "cpu"), "cpu")


def test_a_step_of_generation_attends_as_sdpa_does_without_copies_of_its_keys(tiny_model, monkeypatch):
    model = load_causal_model(tiny_model, "float32", "cpu")
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    ids = torch.tensor([[0] * 5 + tokens(7), tokens(12)])  # the first is padded
    told = {"attention_mask": (ids > 0).long(), "max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    told |= {"output_logits": True, "return_dict_in_generate": True}
    lengths = []
    plain = packing.sdpa_attention_forward

    def watched(module, query, *rest, **more):
        lengths.append(query.shape[2])
        return plain(module, query, *rest, **more)

    monkeypatch.setattr(packing, "sdpa_attention_forward", watched)
    found = model.generate(ids, **told)
    assert set(lengths) == {12}, "the prompt goes the usual way, and nothing else"
    model.set_attn_implementation("sdpa")
    expected = model.generate(ids, **told)
    assert len(found.logits) == 6
    assert torch.allclose(torch.stack(found.logits), torch.stack(expected.logits), atol=1e-5)

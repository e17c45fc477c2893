"""Rows of tokens laid end to end without padding, what they begin with in common laid once, and attention that keeps them apart.

A row is a path of pieces: itself, or what it shares with other rows and then its own rest. Each token attends to its path
alone, so a row gets the numbers that it gets by itself, up to rounding. Generation packs nothing: it shares what a whole batch
begins with, and attends without a copy of the keys for each of its heads.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from reasoningrec_assets.errors import PermanentError

SHORTEST = 16  # tokens below which a common beginning is computed twice: a segment or a pass of its own costs more
CALL = {"cpu": 16_384, "cuda": 1_048_576}  # pairs of tokens whose attention costs as much as one more call
MOST_WEIGHTED = 2048  # tokens of the longest row up to which attention is two products
_ATTENTION = "rows_apart"


@dataclass(frozen=True)
class Pack:
    """Rows packed into one sequence, in segments, each a call of attention, which lie one after another."""

    rows: Sequence[list[int]]
    ids: list[int] = field(default_factory=list[int])
    positions: list[int] = field(default_factory=list[int])  # of each token within its row
    places: list[list[int]] = field(default_factory=list[list[int]])  # of each row's tokens within `ids`
    # of each segment: the numbers of those before it on its rows' paths, its own last, and its pieces, each its length and the
    # place among them of the piece that it goes on from, none of a segment's first ones
    paths: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])
    pieces: list[list[tuple[int, int | None]]] = field(default_factory=list[list[tuple[int, int | None]]])

    def lengths(self) -> list[int]:
        """Tokens of each segment."""
        return [sum(length for length, _ in pieces) for pieces in self.pieces]


def pack(rows: Sequence[list[int]], device: str) -> Pack:
    """Lay rows, none empty, into one sequence; a beginning of at least `SHORTEST` tokens that several share is laid once."""
    packed = Pack(rows, places=[[] for _ in rows])
    laid: list[tuple[int, int]] = []  # each piece's length, and the piece that it goes on from, -1 where a row begins
    # rows equal in their first tokens, how many these are, and their last piece; the last is laid next, with all below it
    left: list[tuple[list[int], int, int]] = [([*range(len(rows))], 0, -1)]
    while left:
        members, depth, before = left.pop()
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for member in members:
            groups[tuple(rows[member][depth : depth + SHORTEST])].append(member)
        if len(groups) > 1:
            left.extend((group, depth, before) for group in reversed(groups.values()))
            continue
        common = rows[members[0]][depth : _common([rows[member] for member in members])]
        for member in members:
            packed.places[member].extend(range(len(packed.ids), len(packed.ids) + len(common)))
        packed.ids.extend(common)
        packed.positions.extend(range(depth, depth + len(common)))
        if longer := [member for member in members if len(rows[member]) > depth + len(common)]:
            left.append((longer, depth + len(common), len(laid)))
        laid.append((len(common), before))
    _cut(packed, laid, CALL[device.partition(":")[0]])
    return packed


def _cut(packed: Pack, laid: Sequence[tuple[int, int]], call: int) -> None:
    """Cut the pieces into segments: a piece with all that goes on from it, and such families side by side, where that pays."""

    def pays(count: int, tokens: int, pairs: int) -> bool:  # one call over so many pieces, though a mask hides most of it
        return tokens * tokens - pairs <= call * (count - 1)

    # of a piece's family: how many, their tokens, and the pairs of tokens that see each other
    families = [(1, length, length * length) for length, _ in laid]
    for place in range(len(laid) - 1, -1, -1):
        length, before = laid[place]
        if before >= 0:
            (count, tokens, pairs), (more, added, seen) = families[before], families[place]
            families[before] = (count + more, tokens + added, pairs + seen + laid[before][0] * added)
    segment_of, place, last, beside = [0] * len(laid), 0, (0, 0, 0), -2  # the last segment's families, and what they go on from
    while place < len(laid):
        before = laid[place][1]
        path = packed.paths[segment_of[before]] if before >= 0 else ()
        together = (last[0] + families[place][0], last[1] + families[place][1], last[2] + families[place][2])
        alone = not pays(*families[place])
        if alone or before != beside or not pays(*together):
            packed.paths.append((*path, len(packed.paths)))
            packed.pieces.append([])
            together = families[place]
        start, end = place - len(packed.pieces[-1]), place + (1 if alone else families[place][0])
        for length, parent in laid[place:end]:
            packed.pieces[-1].append((length, parent - start if parent >= place else None))
        segment_of[place:end] = [len(packed.paths) - 1] * (end - place)
        place = end
        last, beside = together, -2 if alone else before


def _common(rows: Sequence[list[int]]) -> int:
    """How many tokens all rows begin with in common."""
    low, high = min(rows), max(rows)  # in dictionary order, what these two share all others share
    return next((place for place, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), len(low))


def common_prefix(rows: Sequence[list[int]]) -> list[int]:
    """The tokens that all rows begin with, at least one token short of the shortest row; empty where too few."""
    shared = min(_common(rows), min(map(len, rows)) - 1)
    return rows[0][:shared] if len(rows) > 1 and shared >= SHORTEST else []


def prefix_cache(model: Any, prefix: list[int], rows: int, device: str) -> Any:
    """Keys and values that a causal language model has for a prefix, for a batch of `rows`; None where the prefix is empty."""
    if not prefix:
        return None
    with torch.inference_mode():
        cache = model.get_decoder()(input_ids=torch.tensor([prefix], device=device), use_cache=True).past_key_values
        cache.batch_repeat_interleave(rows)
    return cache


def packs_by_tokens(rows: Sequence[list[int]], budget: int) -> list[list[int]]:
    """Indices of rows, those that begin alike together, in groups whose packs have at most about `budget` tokens each."""
    order = sorted(range(len(rows)), key=rows.__getitem__)
    groups, size = [order[:1]], len(rows[order[0]]) if order else 0
    for before, index in pairwise(order):
        shared = _common([rows[before], rows[index]])
        added = len(rows[index]) - (shared if shared >= SHORTEST else 0)
        if size + added > budget:
            groups.append([])
            size, added = 0, len(rows[index])
        groups[-1].append(index)
        size += added
    return groups if order else []


def install(model: Any) -> None:
    """Have a transformers model attend by `_attend` from now on."""
    AttentionInterface.register(_ATTENTION, _attend)
    AttentionMaskInterface.register(_ATTENTION, sdpa_mask)
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for every shape, and nearly every pack has its own
    model.set_attn_implementation(_ATTENTION)


def check_apart(model: Any, device: str) -> None:
    """PermanentError where a row's states hang on what else is in its pack, or logits are more than states by the output matrix."""
    own, head = [10, 9, 8, 7], model.get_output_embeddings()
    packs = [pack([[*range(start, start + 6)], own], device) for start in (11, 21)]
    try:
        with torch.inference_mode():
            one, other = (hidden_states(model, packed, device)[packed.places[1][-1]].float() for packed in packs)
            ids, weight = torch.tensor([own], device=device), head.weight
            last, logits = model.get_decoder()(input_ids=ids).last_hidden_state[0, -1], model(input_ids=ids).logits[0, -1]
            scaled = float(((last.to(weight.device) @ weight.T).to(logits.device) - logits).abs().max() / logits.std())
        # int8 chooses what it does not round by all that is computed together
        mixed = 0.0 if getattr(model, "is_loaded_in_8bit", False) else float((one - other).abs().max() / one.std())
        problem = "its layers mix rows" if mixed > 0.05 else "its logits are scaled" if scaled > 0.05 else ""
        if type(head) is not torch.nn.Linear or "bias" in head.state_dict():
            problem = "a bias or an adapter is on its output"
    except (TypeError, AttributeError, ValueError, IndexError, RuntimeError) as error:
        problem = f"{type(error).__name__}: {error}"[:300]
    if problem:
        remedy = "Use a base whose layers are attention and whose logits are its output matrix's, such as Llama, Qwen or SmolLM"
        raise PermanentError("answer rows of a pack as by themselves", where=type(model).__name__, problem=problem, remedy=remedy)


def hidden_states(model: Any, packed: Pack, device: str) -> Any:
    """The model's last hidden states of the packed tokens, of shape (tokens, width)."""
    decoder = model.get_decoder()
    window, longest = getattr(decoder.config, "sliding_window", None) or 2**31, max(map(len, packed.rows))
    if longest > window or getattr(decoder.config, "attn_logit_softcapping", None):
        problem = f"its attention caps logits, or looks back over {window} tokens where a row has {longest}"
        remedy = "Use a base with full attention, or set a smaller max_tokens"
        raise PermanentError("pack rows", where=type(decoder).__name__, problem=problem, remedy=remedy)
    if decoder.config._attn_implementation != _ATTENTION:
        install(decoder)
    ids, positions = (torch.tensor([values], device=device) for values in (packed.ids, packed.positions))
    # where that is faster, see `_weighted`; its memory grows with the square of a row
    by_products = device == "cpu" and decoder.dtype == torch.bfloat16 and longest <= MOST_WEIGHTED
    lengths = packed.lengths()
    masks = [_mask(sum(lengths[at] for at in path[:-1]), packed.pieces[path[-1]], device, by_products) for path in packed.paths]
    segments = (lengths, packed.paths, masks)
    # a mask of four dimensions is passed on as it is: none is made for the whole pack
    no_mask = torch.empty(1, 1, 0, 0, device=device)
    output = decoder(input_ids=ids, position_ids=positions, attention_mask=no_mask, use_cache=False, row_segments=segments)
    return output.last_hidden_state[0]


def _mask(before: int, pieces: Sequence[tuple[int, int | None]], device: str, by_products: bool) -> Any:
    """What a segment's tokens see of their path: to be added in bf16; or as booleans, None where plainly causal."""
    ends = [*accumulate(length for length, _ in pieces)]
    own = torch.zeros(ends[-1], ends[-1], dtype=torch.bool)
    for (length, parent), end in zip(pieces, ends, strict=True):
        if parent is not None:
            own[end - length : end] = own[ends[parent] - 1]  # all that its last token sees
        own[end - length : end, end - length : end] = torch.ones(length, length, dtype=torch.bool).tril()
    seen = torch.nn.functional.pad(own.to(device), (before, 0), value=True)
    plain = seen if before or len(pieces) > 1 else None
    return torch.where(seen, 0.0, -torch.inf).bfloat16() if by_products else plain


def _attend(
    module: Any, query: Any, key: Any, value: Any, mask: Any, *, row_segments: Any = None, scaling: Any = None, **more: Any
) -> tuple[Any, None]:
    """Attention of the shape that transformers calls, segment by segment: query (1, heads, tokens, width of a head)."""
    attend = torch.nn.functional.scaled_dot_product_attention
    if more.get("s_aux") is not None:
        raise ValueError("its attention has sinks")
    if row_segments is None:
        whole = query.shape[2] > 1 or key.shape[1] == query.shape[1]
        if whole or mask is None or mask.shape[1] > 1 or more.get("position_bias") is not None:
            return sdpa_attention_forward(module, query, key, value, mask, scaling=scaling, **more)
        # A step of generation: a row's one new token sees all that its mask leaves, so the heads that share their keys can be so
        # many tokens of one head. By itself, sdpa copies the keys for each of them at every step.
        found = attend(query.reshape(len(query), key.shape[1], -1, query.shape[-1]), key, value, attn_mask=mask, scale=scaling)
        return found.flatten(1, 2)[:, None], None
    lengths, paths, masks = row_segments
    # split, since the gradient of a slice is as long as the whole
    queries, keys, values = (laid.split(lengths, 2) for laid in (query, key, value))
    parts: list[Any] = []
    for own, path, seen in zip(queries, paths, masks, strict=True):
        known = [torch.cat([laid[at] for at in path], 2) if len(path) > 1 else laid[path[0]] for laid in (keys, values)]
        if seen is not None and seen.is_floating_point():
            parts.append(checkpoint(_weighted, own, *known, seen, scaling, use_reentrant=False, preserve_rng_state=False))
        else:
            grouped = seen is None or not own.is_cuda  # a card's kernels take a mask, or heads that share keys, not both
            known = known if grouped else [laid.repeat_interleave(own.shape[1] // laid.shape[1], 1) for laid in known]
            parts.append(attend(own, *known, attn_mask=seen, is_causal=seen is None, scale=scaling, enable_gqa=grouped))
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


def _weighted(query: Any, key: Any, value: Any, added: Any, scaling: float) -> Any:
    """Attention by two products: half of sdpa's time in bf16 on a processor, though the weights are made again for a gradient."""
    folded = query[0].reshape(key.shape[1], -1, query.shape[-1])  # heads that share keys, as so many tokens of one
    scores = torch.baddbmm(added.repeat(query.shape[1] // key.shape[1], 1), folded, key[0].transpose(1, 2), alpha=scaling)
    return torch.bmm(scores.softmax(-1), value[0]).view(query.shape)

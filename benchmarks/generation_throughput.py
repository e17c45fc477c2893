"""Texts per second: ours on vLLM and on transformers, beside the published way and a bare `LLM.generate`.

On two cores five whole rounds of both ways on transformers take some three hours. In each round these two write the same eighth
of the requests, another one each time, and are counted with the whole: whatever their number, they go batch by batch.
"""

from __future__ import annotations

import json

from benchmarks.contestant import SHARE, requests_of
from benchmarks.harness import CACHE, Contestant, Figure, median_ratio, ours, peer, rounds
from benchmarks.inputs import endless_model
from reasoningrec_assets.compute import prepare, visible_devices
from reasoningrec_assets.generation.engines.vllm import child_environment
from reasoningrec_assets.models.store import load_tokenizer


def run(quick: bool) -> list[Figure]:
    sets = {"descriptions": (8, 8), "reasonings": (4, 16)} if quick else {"descriptions": (512, 64), "reasonings": (256, 256)}
    count, sample = (1, 1) if quick else (5, 8)
    folder = endless_model()
    tokenizer = load_tokenizer(folder)
    prompts = {
        f"{name}/{number}": [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": request.message}], tokenize=False, add_generation_prompt=True
            )
            for request in requests_of({"set": name, "size": size, "round": number})
        ]
        for name, (size, _) in sets.items()
        for number in range(count)
    }
    path = CACHE / "prompts.json"
    path.write_text(json.dumps(prompts), encoding="utf-8")
    names = visible_devices()
    device = prepare(names[:1], names)
    eager = "eager" if quick else "compiled"
    contestants = [
        Contestant("ours on vLLM", ours("contestant", "vllm", eager)),
        Contestant(
            "bare vLLM",
            peer("bare_vllm", "bare_vllm.py", str(folder), str(path), eager, device.dtype, str(SHARE)),
            environment=child_environment(device),
        ),
        Contestant("ours on transformers", ours("contestant", "transformers"), sample=sample),
        Contestant("published", peer("published", "published.py", str(folder), str(path), device.dtype), sample=sample),
    ]
    found = {name: rounds(contestants, count, set=name, size=size, tokens=tokens) for name, (size, tokens) in sets.items()}
    for contestant in contestants:
        contestant.close()
    seconds = {
        contestant.name: {
            name: [one["seconds"] * contestant.orders.get("sample", 1) for one in found[name][contestant.name]] for name in sets
        }
        for contestant in contestants
    }
    starts = {f"start of {contestant.name}": contestant.ready["start_seconds"] for contestant in contestants}
    both = {name: [sum(pair) for pair in zip(*by_set.values(), strict=True)] for name, by_set in seconds.items()}
    figures = [
        Figure(
            f"vLLM, {name}: times the published way", median_ratio(seconds["published"][name], seconds["ours on vLLM"][name]), 2.4
        )
        for name in sets
    ]
    figures += [
        Figure(
            f"vLLM, {name}: time against a bare LLM.generate",
            median_ratio(seconds["ours on vLLM"][name], seconds["bare vLLM"][name]),
            1.05,
            at_most=True,
        )
        for name in sets
    ]
    details = {name: min(values) for name, values in both.items()} | starts
    ratio = median_ratio(both["published"], both["ours on transformers"])
    return [*figures, Figure("transformers, both sets: times the published way", ratio, 1.3, details=details)]

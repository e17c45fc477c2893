"""What the words of an explanation are taken for; every fault is planted, and every rule has a text that it must leave alone."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from reasoningrec_assets.lake.schemas import TABLES
from reasoningrec_assets.metrics.evaluate import evaluate
from reasoningrec_assets.metrics.explanations import Texts, flagged, rouge_l, swapped_figures
from reasoningrec_assets.metrics.text import BertScore
from reasoningrec_assets.sql import query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TITLES = {
    "alien": "Alien",
    "piano": "Piano, The",
    "matrix": "Matrix, The",
    "toy1": "Toy Story",
    "toy2": "Toy Story 2",
    "heat": "Heat",
    "fargo": "Fargo",
    "empire": "Star Wars: The Empire Strikes Back",
    "wars": "Star Wars",
    "city": "City of Lost Children, The (Cité des enfants perdus, La)",
    "game": "The Game",
    "river": "Wild River",
    "up": "Up in Smoke",
    "seven": "Seven Samurai, The",
    "it": "It",
    "sleep": "While You Were Sleeping",
    "ugly": "Good, The Bad and The Ugly, The",
    "trouble": "I Love Trouble",
    "dundee": '"Crocodile" Dundee',
    "frame": '5"x7" Frame, Black',
    "cape": "Cape Fear",
    "cape62": "Cape Fear",
    "amelie": "Fabuleux destin d'Amélie Poulain, Le",
    "dumb": "Dumb & Dumber",
    "se7en": "Seven (Se7en)",
    "existenz": "eXistenZ",
    "batteries": "*batteries not included",
}
YEARS = {"it": 1990, "alien": 1979, "up": 1978, "cape": 1991, "cape62": 1962}
HISTORY = {"piano": True, "toy2": False, "wars": True, "city": True, "cape": True, "amelie": True, "dumb": False, "se7en": True}
PROMPT = 'Rated movies, oldest first:\n- liked: "Piano, The" (1993); Drama. A mute woman plays the piano on a wild coast.\nTarget movie:\n"Fargo"'


@pytest.fixture
def tables(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def write(texts: list[str | None], *, liked: bool = True, target: str = "fargo", method: str = "student") -> dict[str, Any]:
        def table(name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> Path:
            path = tmp_path / f"{name}.parquet"
            pq.write_table(pa.Table.from_pylist([{"dataset": "d", **row} for row in rows], schema=schema), path)
            return path

        keys = [
            {"split": "test", "user_id": f"u{row:02}", "target_item_id": target, "label": row % 2 == 0}
            for row in range(len(texts))
        ]
        history = {"history_item_ids": [*HISTORY], "history_liked": [*HISTORY.values()]}
        more = {"target_rating": 5.0, "target_time": 0, "profile_item_ids": [], "profile_liked": [], **history}
        score = {"method": method, "score": 1.0 if liked else -1.0, "probability": 0.5}
        label = {"teacher_mode": "conditioned", "status": "ok", "text": "The user liked this film, a comedy."}
        return {
            "predictions": [
                table(
                    "predictions",
                    [k | score | {"explanation": t} for k, t in zip(keys, texts, strict=True)],
                    TABLES["predictions"].arrow(),
                )
            ],
            "windows": table("windows", [key | more for key in keys], TABLES["interaction_windows"].arrow()),
            "texts": Texts(
                items=table(
                    "items",
                    [{"item_id": i, "title": t, "genres": [], "year": YEARS.get(i)} for i, t in TITLES.items()],
                    TABLES["items"].arrow(),
                ),
                prompts={
                    method: table(
                        "sft",
                        [k | {"instruction": "", "input": PROMPT, "output": ""} for k in keys],
                        TABLES["sft_splits"].arrow(),
                    )
                },
                references=table("labels", [key | label for key in keys], TABLES["reasoning_labels"].arrow()),
            ),
        }

    return write


@pytest.fixture
def flags(tables: Callable[..., dict[str, Any]]) -> Callable[..., list[dict[str, Any]]]:
    return lambda *texts, **more: query("FROM flags ORDER BY user_id", on=flagged(**tables([*texts], **more))).to_pylist()


STATED = {
    "Prediction: Yes. It suits them.": True,
    "Prediction: No": False,
    'The user liked "Fargo" for its humour.': True,
    'The user disliked "Fargo" (1996).': False,
    "The user would not enjoy this film.": False,
    "The user would not be disappointed by this film.": True,
    "This film will not disappoint them.": True,
    "The user not only enjoys this film but returns to it.": True,
    "The user does not dislike this film.": True,
    "They wouldn't really like this movie.": False,
    "The user is unlikely to enjoy the target movie.": False,
    "The user would dislike this movie, although they liked comedies.": False,
    "Because the user hates horror, they would enjoy this film.": True,
    "The user likes dramas, but this movie would disappoint.": False,
    "This film is a comedy, which the user dislikes.": False,
    "It matches movies like this movie, which they love.": True,
    "They liked this film; in the end they disliked this film.": False,
    # a denial reaches some words on, over "or" and not over "and"
    "I don't think the user would like this movie.": False,
    "It's unlikely that the user will enjoy this movie.": False,
    "The user may not be able to fully appreciate or enjoy this movie.": False,
    "The user would neither like nor enjoy this movie.": False,
    "This film fails to appeal.": False,
    "There is nothing to like in this film.": False,
    "This movie has nothing to dislike.": True,
    "This movie is not a good match for the user.": False,
    "This movie would be a poor fit for the user.": False,
    "This movie would be a great fit for the user.": True,
    "This movie is a poor fit, and poorly suited.": False,
    "They would enjoy this movie about a poor boy who loves music.": True,
    "This film about a distant planet would appeal to the user.": True,
    "This item is a knit sweater that would suit the user.": True,
    "They won’t enjoy this movie.": False,
    "This movie is not too dark and matches the user's taste.": True,
    "The user does not like violence and would enjoy this movie.": True,
    # what the user likes otherwise is no opinion on it
    "This movie does not align with the user's preferences.": False,
    "This movie does not really seem to align with what they like.": False,
    "This film is not what they like.": False,
    "The user would likely dislike this movie due to their preference for comedies.": False,
    "They would dislike this movie and prefer something lighter.": False,
    "This film suits their love of drama.": True,
    "The user would enjoy this movie and other films like it.": True,
    # nothing about the target, or no opinion on it
    'The user liked "The Piano" and disliked "Toy Story 2".': None,
    "This movie is a comedy.": None,
    "This film is one of the films like Heat.": None,
    "The user liked comedies.": None,
    "": None,
}
NAMED = {
    'They liked "The Piano" and "Piano, The" (1993), so "Fargo" fits.': ([], []),
    'They liked "Alien" (1979); Horror.': (["alien"], []),
    "They liked “The Matrix” and «Heat».": (["heat", "matrix"], []),
    'They liked "Toy Story".': (["toy story"], []),  # not Toy Story 2, which is in the history
    'They liked "Toy Story 2".': ([], []),
    'They liked "Toy Story 3".': ([], ["toy story 3"]),  # differs from a title in its number alone
    'They liked "Aliens".': ([], ["aliens"]),  # a plural is another title
    'They liked "The Seven Samurais".': ([], ["seven samurais"]),
    'They liked "Seven Samurei" and "The Sevn Samurai".': (["seven samurai"], []),  # misspelt
    'They liked "The Last Hope of the World".': ([], ["last hope of the world"]),
    'They liked "Star Wars: The Empire Strikes Back".': (["star wars the empire strikes back"], []),  # whole before its beginning
    'They liked "Star Wars: Action, Adventure".': ([], []),
    'They liked "Star Wars. Then "Alien" came.': (
        [],
        [],
    ),  # a quotation that is never closed takes the next one's beginning for its end
    'They liked "The City of Lost Children".': ([], []),
    # outside of quotes: two words or more, written as a name, the longest
    "They saw Star Wars: The Empire Strikes Back twice.": (["star wars the empire strikes back"], []),
    "They saw Star Wars twice, and a wild river up in smoke.": ([], []),
    "They saw Wild River.": (["wild river"], []),
    "The game was up: heat and an alien.": ([], []),
    "They saw Up in Smoke.": (["up in smoke"], []),
    "They saw up in smoke (1978), and alien (1979).": (["alien", "up in smoke"], []),  # with its year
    "They saw Toy Story 3 and Wild River II.": ([], []),  # sequels that the catalogue lacks are no title of it
    "They saw Seven Samurai.": (["seven samurai"], []),
    # as a prompt writes a title that holds quotation marks, and as a model may
    'They liked ""Crocodile" Dundee" (1986) and "5"x7" Frame, Black".': (["5 x7 frame black", "crocodile dundee"], []),
    'They liked "Crocodile" Dundee.': (["crocodile dundee"], []),
    'They liked "Crocodile Dundee" and "Crocodiles".': (["crocodile dundee"], ["crocodiles"]),
    # other letters, articles, and a second name
    'They liked "Le Fabuleux Destin d\'Amelie Poulain" and "Dumb and Dumber".': ([], []),
    "They liked Le Fabuleux Destin d'Amélie Poulain, and Dumb & Dumber.": ([], []),
    'They liked "Se7en" and "Seven".': ([], []),
    # a remake
    'They liked "Cape Fear".': ([], []),
    'They liked "Cape Fear" (1991), and Cape Fear (1991).': ([], []),
    'They liked "Cape Fear" (1962).': (["cape fear"], []),
    'They liked "Cape Fear (1962)".': (["cape fear"], []),
    "They liked Cape Fear (1962).": (["cape fear"], []),
    'They liked "Cape Fear" (2024).': ([], []),  # there is none of that year
    # titles that begin as no other does
    'They liked "eXistenZ" and "*batteries not included".': (["batteries not included", "existenz"], []),
    # quoted, and not as a title begins; or a sentence
    'They call it "dark" and "very slow".': ([], []),
    'They wrote "It is a film that one has to see once more than any other of them".': ([], []),
    "": ([], []),
}


OF_TARGET = {
    # a longer title than the target's, shown or not
    "toy1": {
        'The user liked "Toy Story 2".': None,
        "The user disliked Toy Story 2, a sequel.": None,
        "The user disliked Toy Story 3, a sequel.": None,
        "The user would enjoy Toy Story, having disliked Toy Story 2.": True,
        'The user would enjoy "Toy Story" (1995), not "Toy Story 2", which they disliked.': True,
    },
    "wars": {"They disliked Star Wars: The Empire Strikes Back.": None, "They would like Star Wars: it is a classic.": True},
    # a word like any other is a title in quotation marks, with its capital within a sentence, or with its year
    "it": {
        "They saw a comedy and disliked it.": None,
        "It is a comedy that they dislike.": None,
        "They saw a comedy. It bored them.": None,
        'They would dislike "It".': False,
        "They would dislike It, a horror film.": False,
        "They would dislike it (1990).": False,
        "It (1990) would bore them, and It would not appeal.": False,
    },
    "heat": {"They like the heat of summer.": None, "They would like Heat.": True},
    # a title is no clause and no opinion
    "sleep": {
        "The user dislikes comedies, but would enjoy While You Were Sleeping.": True,
        'They like crime, but "While You Were Sleeping" would not appeal to them.': False,
    },
    "ugly": {
        'They would like "The Good, The Bad and The Ugly".': True,
        "They would dislike The Good, The Bad and The Ugly.": False,
    },
    "trouble": {'They would be bored by "I Love Trouble".': False, "This film is I Love Trouble.": None},
    "dundee": {'They would dislike ""Crocodile" Dundee".': False, "They would like Crocodile Dundee": True},
    "existenz": {'They would dislike "eXistenZ".': False, 'They would like "eXistenZ" (1999).': True},
    "cape62": {'They would like "Cape Fear" (1962), having disliked "Cape Fear" (1991).': True},
    "frame": {'They would like "5"x7" Frame, Black", not "5"x8" Frame, Black", which they disliked.': True},
}


def test_what_a_text_states_about_its_target(flags: Any) -> None:
    assert {row["text"]: row["stated"] for row in flags(*STATED)} == STATED


@pytest.mark.parametrize("target", OF_TARGET)
def test_a_clause_is_about_its_target_where_that_stands_as_a_title(flags: Any, target: str) -> None:
    assert {row["text"]: row["stated"] for row in flags(*OF_TARGET[target], target=target)} == OF_TARGET[target]


def test_a_single_capital_is_no_title_that_was_not_shown(flags: Any) -> None:
    (row,) = flags("They felt the Heat, and It came.", target="it")
    assert (row["titles_named"], row["titles_not_shown"]) == (0, [])


def test_titles_that_a_text_names(flags: Any) -> None:
    assert {row["text"]: (row["titles_not_shown"], row["titles_unknown"]) for row in flags(*NAMED)} == NAMED


def test_how_much_is_copied_from_the_prompt(flags: Any) -> None:
    copied, half, own, short = flags(
        "A mute woman plays the piano on a wild coast.",
        "The user: a mute woman plays the",
        "Slow dramas fit this user well.",
        "Yes, Fargo.",
    )
    assert copied["copied"] == 1
    assert half["copied"] == pytest.approx(3 / 4 - 1 / 4)
    assert own["copied"] == 0
    assert short["copied"] is None


def test_what_is_copied_is_told_by_the_prompt_that_the_method_saw(tables: Any, tmp_path: Path) -> None:
    text = "A mute woman plays the piano on a wild coast."
    made = tables([text])
    answers = pq.read_table(made["predictions"][0]).to_pylist()
    others = []
    for method in ("no_profile", "unknown"):
        others.append(tmp_path / f"{method}.parquet")
        pq.write_table(pa.Table.from_pylist([answers[0] | {"method": method}], schema=TABLES["predictions"].arrow()), others[-1])
    prompts = pq.read_table(made["texts"].prompts["student"]).to_pylist()
    shorter = tmp_path / "shorter.parquet"
    rows = [row | {"input": "A mute woman plays the violin."} for row in prompts]
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["sft_splits"].arrow()), shorter)
    texts = dataclasses.replace(made["texts"], prompts=made["texts"].prompts | {"no_profile": shorter})
    flags = query("FROM flags", on=flagged([*made["predictions"], *others], made["windows"], texts)).to_pylist()
    assert {row["method"]: row["copied"] for row in flags} == {
        "student": 1,
        "no_profile": pytest.approx(2 / 7),
        "unknown": None,
    }


def test_another_language_is_said(flags: Any) -> None:
    told = {
        "El usuario disfruta las comedias negras y lentas": True,
        'Como en "The Piano", el usuario disfruta las comedias negras y lentas': True,
        "用户 喜欢 这部 电影 因为 幽默": True,
        "用户喜欢这部电影因为幽默": True,
        "ผู้ใช้ชอบหนังเรื่องนี้": True,
        "Ему нравится": True,
        "The user likes black comedies of that kind": False,
        "Comedia lenta": False,
        "": False,
    }
    assert {row["text"]: row["not_english"] for row in flags(*told)} == told


def test_a_title_with_braces_is_text(tables: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TITLES, "fargo", "Curly {Sue} {0} }")
    made = tables(["They like it."])
    (row,) = query("FROM flags", on=flagged(made["predictions"], made["windows"], made["texts"])).to_pylist()
    assert row["template"].startswith('The user would like "Curly {Sue} {0} }", after')


def test_rows_outside_of_the_test_population_are_in_no_figure(tables: Any) -> None:
    made = tables(["They like it.", "They dislike it.", "They like it."])
    windows = pq.read_table(made["windows"])
    pq.write_table(windows.filter(pa.compute.not_equal(windows["user_id"], "u02")), made["windows"])
    (path,) = made.pop("predictions")
    rows = [row | {"swapped_score": 0.0, "swapped_explanation": "x"} for row in pq.read_table(path).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["predictions"].arrow()), path)
    found = {
        row["metric"]: row for row in evaluate({"student": path}, dataset="d", **made).to_pylist() if row["method"] == "student"
    }
    assert found["extra_rows"]["value"] == 1
    assert {found[name]["n"] for name in ("explained_empty", "label_stated", "rouge_l", "swapped_score_change")} == {2}


def test_planted_faults_are_in_the_figures_by_name_and_not_averaged_away(tables: Any) -> None:
    texts = [
        "The user would dislike this movie.",  # contradicts the prediction
        'Like "The Last Hope of the World", this movie would please; they like it.',  # a title that there is not
        'As in "Alien", they would enjoy this film.',  # a title that was not shown
        "A mute woman plays the piano on a wild coast.",  # copied, and says no label
        "",
        "El usuario disfruta las comedias negras y lentas",
        None,
    ]
    given_ = tables(texts)
    (path,) = given_.pop("predictions")
    table = evaluate({"student": path}, dataset="d", **given_)
    found = {row["metric"]: (row["value"], row["n"]) for row in table.to_pylist() if row["method"] == "student"}
    assert found["explained_rows"] == (6, 7)
    assert found["explained_empty"] == (1, 6)
    assert found["explained_not_english"] == (1, 5)
    assert found["explained_without_reference"] == (0, 6)
    assert found["label_stated"] == (pytest.approx(3 / 5), 5)
    assert found["label_agreement"] == (pytest.approx(2 / 3), 3)
    assert found["titles_faithful"] == (0, 2), "what names no title, or is in another language, is not judged"
    assert found["titles_unknown"] == (1, 2)
    assert found["titles_not_shown"] == (1, 2)
    assert found["copied"][1] == 5
    assert 0 < found["distinct_1"][0] < found["distinct_2"][0] <= 1
    assert found["unique_sentences"] == (1, 5)
    assert found["rouge_l"][1] == 6
    assert not [metric for metric in found if metric.startswith("bertscore")]


def test_repeated_sentences_and_words_lower_their_ratios(tables: Any) -> None:
    given_ = tables(["Good film. Good film.", "Good film."])
    (path,) = given_.pop("predictions")
    rows = evaluate({"student": path}, dataset="d", **given_).to_pylist()
    found = {row["metric"]: row["value"] for row in rows if row["method"] == "student"}
    assert found["unique_sentences"] == pytest.approx(1 / 3)
    assert found["distinct_1"] == pytest.approx(2 / 6)
    assert found["distinct_2"] == pytest.approx(2 / 4)


def test_a_template_is_a_floor_of_both_likenesses(tables: Any, encoder: Path) -> None:
    given_ = tables(["The user liked this film, a comedy.", "Slow."], liked=False)
    (path,) = given_.pop("predictions")
    (row, _) = query("FROM flags ORDER BY user_id", on=flagged([path], given_["windows"], given_["texts"])).to_pylist()
    assert row["template"] == 'The user would dislike "Fargo", after liking 6 of 8 before it.'
    texts = Texts(
        given_["texts"].items, given_["texts"].prompts, given_["texts"].references, BertScore(str(encoder), num_layers=2)
    )
    rows = evaluate({"student": path}, dataset="d", windows=given_["windows"], texts=texts).to_pylist()
    found = {row["metric"]: row for row in rows if row["method"] == "student"}
    assert found["rouge_l"]["value"] == pytest.approx(0.5)
    assert found["rouge_l_template_floor"]["value"] < 0.5
    assert found["bertscore_f1_template_floor"]["n"] == 2
    assert found["bertscore_f1_template_floor"]["value"] < found["bertscore_f1"]["value"]


def test_reasons_that_do_not_heed_the_user_are_told_by_a_swapped_history(tables: Any) -> None:
    made = tables(["They like drama.", "They like drama.", "They like drama.", "They like drama."])
    (path,), windows = made["predictions"], made["windows"]
    again = [("They like drama.", 1.0), ("Comedies bore them.", 3.0), ("They like drama.", -1.0), (None, None)]
    rows = [
        row | {"swapped_explanation": text, "swapped_score": score}
        for row, (text, score) in zip(pq.read_table(path).to_pylist(), again, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["predictions"].arrow()), path)
    found = {metric: (value.value, n) for metric, value, n in swapped_figures(path, windows, {"replicates": 20, "seed": 0})}
    assert found == {"swapped_score_change": (pytest.approx(4 / 3), 3), "swapped_rouge_l": (pytest.approx(0.5), 2)}


WORDS = ["the", "user", "liked", "dramas", "Drama", "don't", "sci-fi", "1995", "9/10", "R2-D2", "U.S.", "well-made", "really"]
OTHER = [
    "naïve",
    "Amélie",
    "«Alien»",
    "“The",
    "Piano”",
    "İstanbul",
    "Straße",
    "用户",
    "喜欢",
    "ё",
    "½",
    "x_y",
    "__",
    "…",
    "—",
    "😀",
]


def texts(words: list[str]) -> st.SearchStrategy[str]:
    """Words between blanks and punctuation, as sentences have them."""
    gaps = st.sampled_from([" ", " ", " ", ", ", ". ", "; ", " - ", "\n", "! ", ": "])
    return st.lists(st.tuples(st.sampled_from(words), gaps), max_size=25).map(lambda parts: "".join(itertools.chain(*parts)))


@given(st.lists(st.tuples(texts(WORDS), texts(WORDS)), min_size=1, max_size=8))
def test_rouge_l_equals_googles(pairs: list[tuple[str, str]]) -> None:
    scorer = RougeScorer(["rougeL"])
    expected = [scorer.score(reference, candidate)["rougeL"].fmeasure for candidate, reference in pairs]
    assert rouge_l(*zip(*pairs, strict=True)) == pytest.approx(expected)


class Letters:
    """A tokenizer for Google's scorer that, unlike its own, keeps the letters of all languages."""

    def tokenize(self, text: str) -> list[str]:
        return "".join(char if char.isalnum() else " " for char in text.lower()).split()


@given(st.lists(st.tuples(texts(WORDS + OTHER), texts(WORDS + OTHER)), min_size=1, max_size=8))
def test_rouge_l_equals_googles_on_words_of_any_script(pairs: list[tuple[str, str]]) -> None:
    scorer = RougeScorer(["rougeL"], tokenizer=Letters())
    expected = [scorer.score(reference, candidate)["rougeL"].fmeasure for candidate, reference in pairs]
    assert rouge_l(*zip(*pairs, strict=True)) == pytest.approx(expected)

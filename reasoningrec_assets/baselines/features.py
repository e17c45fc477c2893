"""The five features of the floor: what a reader sees of a user and an item without any language model.

What belongs here: SQL from windows and interactions to one row of features per window. What doesn't: a model over
them. Leak-safe by construction: no target event, of any split or user, is ever counted.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from reasoningrec_assets.sql import query

FEATURES = ("like_rate", "item_like_rate", "item_popularity", "last_label", "recent_like_rate")

# Pseudo-events at the prior that a rate is smoothed with: few for a user's history, whose length is H, more for an
# item, whose few events come from other users.
HISTORY_PSEUDO_EVENTS = 2.0
ITEM_PSEUDO_EVENTS = 20.0
# Recent means the last five, but never more than half of what is shown: with H=4 it would repeat the like rate.
RECENT_ITEMS = 5

_PRIOR = """
prior AS (  -- like rate of the train targets; one half of a like is added to each side, so it is never 0 or 1
    SELECT (count(*) FILTER (label) + 0.5) / (count(*) + 1.0) AS rate
    FROM read_parquet($windows) WHERE split = 'train'
)"""

_FEATURES_SQL = f"""
WITH {_PRIOR},
-- An interaction counts as a training event when it lies strictly before its user's earliest target of any split.
-- Leaving the train targets out too costs one event per user, and means that no row ever sees its own label: counting
-- them, and leaving only a row's own out, turns an item's like rate against the label of the very row (an item liked
-- once looks unliked to the one train row that liked it), which the test rows don't have.
first_target AS (
    SELECT windows.user_id, min(events.position) AS position
    FROM read_parquet($windows) AS windows
    JOIN read_parquet($interactions) AS events
      ON events.user_id = windows.user_id AND events.item_id = windows.target_item_id
    GROUP BY windows.user_id
),
item_events AS (
    SELECT events.item_id, count(*) AS events, count(*) FILTER (events.liked) AS likes
    FROM read_parquet($interactions) AS events
    LEFT JOIN first_target USING (user_id)
    WHERE first_target.position IS NULL OR events.position < first_target.position
    GROUP BY events.item_id
),
shown AS (
    SELECT split, user_id, target_item_id, label, history_liked,
        len(history_liked) AS items,
        len(list_filter(history_liked, lambda liked: liked)) AS likes,
        history_liked[-least({RECENT_ITEMS}, (len(history_liked) + 1) // 2)::INTEGER:] AS recent
    FROM read_parquet($windows)
)
SELECT split, user_id, target_item_id, label,
    (shown.likes + {HISTORY_PSEUDO_EVENTS} * rate) / (items + {HISTORY_PSEUDO_EVENTS}) AS like_rate,
    (coalesce(item_events.likes, 0) + {ITEM_PSEUDO_EVENTS} * rate)
        / (coalesce(item_events.events, 0) + {ITEM_PSEUDO_EVENTS}) AS item_like_rate,
    ln(1 + coalesce(item_events.events, 0)) AS item_popularity,
    coalesce(history_liked[-1]::INTEGER, rate)::DOUBLE AS last_label,
    CASE WHEN items = 0 THEN rate ELSE len(list_filter(recent, lambda liked: liked)) / len(recent) END::DOUBLE AS recent_like_rate
FROM shown CROSS JOIN prior
LEFT JOIN item_events ON item_events.item_id = shown.target_item_id
ORDER BY split, user_id, target_item_id
"""

_HISTORY_SQL = f"""
WITH {_PRIOR}
SELECT split, user_id, target_item_id, label,
    (len(list_filter(history_liked, lambda liked: liked)) + {HISTORY_PSEUDO_EVENTS} * rate)
        / (len(history_liked) + {HISTORY_PSEUDO_EVENTS}) AS like_rate
FROM read_parquet($windows) CROSS JOIN prior
WHERE split IN ('valid', 'test')
ORDER BY split, user_id, target_item_id
"""


def window_features(windows: Path, interactions: Path) -> pa.Table:
    """The five features of every window (section 6 of the method: the floor that no one prints).

    ``like_rate``: share liked in the shown history, smoothed; ``item_like_rate``: share of the target item's training
    events that were likes, smoothed; ``item_popularity``: log(1 + number of those events); ``last_label``: 1 where the
    latest history item was liked; ``recent_like_rate``: share liked among the last five (of a history shorter than ten, its
    later half). An empty history and an unseen item take the like rate of the train targets.

    Args:
        windows: Parquet file of `interaction_windows`.
        interactions: Parquet file of `cleaned_interactions`.

    Returns:
        split, user_id, target_item_id, label and the features as float64, without nulls, ordered by the key.
    """
    return query(_FEATURES_SQL, windows=windows, interactions=interactions)


def history_rates(windows: Path) -> pa.Table:
    """``like_rate`` as in `window_features`, for the valid and test rows only."""
    return query(_HISTORY_SQL, windows=windows)

-- Fragments of queries: `shown` and `training_events` are put where another text has their names in braces.

-- name: shown
WITH prior AS (  -- like rate of the train targets; one half of a like is added to each side, so it is never 0 or 1
    SELECT (count(*) FILTER (label) + 0.5) / (count(*) + 1.0) AS rate FROM read_parquet($windows) WHERE split = 'train'
),
shown AS (
    SELECT split, user_id, target_item_id, label, history_liked, rate,
        (len(list_filter(history_liked, lambda liked: liked)) + $history_pseudo_events * rate)
            / (len(history_liked) + $history_pseudo_events) AS like_rate,
        history_liked[-least($recent_items, (len(history_liked) + 1) // 2)::INTEGER:] AS recent
    FROM read_parquet($windows) CROSS JOIN prior
)

-- name: training_events
-- An interaction counts as a training event when it lies strictly before its user's earliest target of any split.
-- Leaving the train targets out too costs one event per user, and means that no row ever sees its own label: counting
-- them, and leaving only a row's own out, turns an item's like rate against the label of the very row (an item liked
-- once looks unliked to the one train row that liked it), which the test rows don't have. Where windows are cut by
-- dates, what happened after the first cut does not count either, whoever did it.
first_target AS (
    SELECT user_id, min(position) AS position
    FROM read_parquet($interactions) AS events SEMI JOIN read_parquet($windows) AS windows
      ON events.user_id = windows.user_id AND item_id = target_item_id GROUP BY user_id
),
training_events AS (
    SELECT events.user_id, item_id, liked, events.position FROM read_parquet($interactions) AS events LEFT JOIN first_target USING (user_id)
    WHERE coalesce(events."timestamp" < $cut, true) AND coalesce(events.position < first_target.position, true)
)

-- name: features
{shown},
{training_events},
item_events AS (SELECT item_id, count(*) AS events, count(*) FILTER (liked) AS likes FROM training_events GROUP BY item_id)
SELECT split, user_id, target_item_id, label, like_rate,
    (coalesce(likes, 0) + $item_pseudo_events * rate) / (coalesce(events, 0) + $item_pseudo_events) AS item_like_rate,
    ln(1 + coalesce(events, 0)) AS item_popularity,
    coalesce(history_liked[-1]::INTEGER, rate)::DOUBLE AS last_label,
    CASE WHEN len(recent) = 0 THEN rate ELSE len(list_filter(recent, lambda liked: liked)) / len(recent) END::DOUBLE
        AS recent_like_rate
FROM shown LEFT JOIN item_events ON item_id = target_item_id ORDER BY split, user_id, target_item_id

-- name: rates
{shown} SELECT * FROM shown WHERE split <> 'train' ORDER BY split, user_id, target_item_id

-- name: histories
SELECT split, user_id, target_item_id, label, history_item_ids, history_liked FROM read_parquet($windows)
ORDER BY split, user_id, target_item_id

-- name: student
SELECT split, user_id, target_item_id, score AS student FROM read_parquet($scored)

-- name: sequences
-- Beside the windows, training events as train rows of their own, each after the events before it: a sequential model learns
-- from every step of a sequence. Of more than so many, some, the same on every run.
WITH {training_events},
steps AS (
    SELECT 'train' AS split, user_id, item_id AS target_item_id, liked AS label,
        list(item_id) OVER before AS history_item_ids, list(liked) OVER before AS history_liked
    FROM training_events
    WINDOW before AS (
        PARTITION BY user_id ORDER BY position
        ROWS BETWEEN (SELECT coalesce(max(len(history_item_ids)), 1) FROM read_parquet($windows)) PRECEDING AND 1 PRECEDING
    )
)
FROM (FROM steps WHERE history_item_ids IS NOT NULL ORDER BY hash(user_id, target_item_id), user_id, target_item_id LIMIT $most)
UNION ALL BY NAME
SELECT split, user_id, target_item_id, label, history_item_ids, history_liked FROM read_parquet($windows)
ORDER BY split, user_id, target_item_id

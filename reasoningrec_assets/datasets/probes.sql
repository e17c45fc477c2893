-- Leak probes for asset checks to judge. Tables go by the names of their assets, `$cuts` are the dataset's. What must not be in
-- `interaction_windows` is counted by every figure of the first three and `targets_per_user`, and a probe's first line says what
-- holds without.

-- name: target_not_in_own_history
-- No target is in its own history, nor one of any split in its user's profile, label and all.
WITH users AS (SELECT user_id, list(target_item_id) AS targets FROM read_parquet($interaction_windows) GROUP BY user_id)
SELECT count(*) FILTER (list_contains(history_item_ids, target_item_id)) AS in_history,
    count(*) FILTER (list_has_any(profile_item_ids, targets)) AS in_profile
FROM read_parquet($interaction_windows) JOIN users USING (user_id)

-- name: nothing_later_than_target
-- Every shown item has an event of its user before the target and, if there are cuts, the split's.
-- Where repeats of a pair are kept, its first makes the item known; of equal ones at the target's time the last is the target.
WITH events AS (FROM read_parquet($cleaned_interactions)),
pairs AS (SELECT user_id, item_id, min(position) AS start, min("timestamp") AS since FROM events GROUP BY ALL),
places AS (SELECT user_id, item_id AS target_item_id, "timestamp", max(position) AS place FROM events GROUP BY ALL),
shown AS (
    SELECT *, unnest(history_item_ids || profile_item_ids) AS item_id, target_time AS "timestamp",
        ($cuts::BIGINT[])[list_position(['train', 'valid', 'test'], split)] AS cut FROM read_parquet($interaction_windows)
)
SELECT count(*) FILTER (start >= place) AS at_or_after_target, count(*) FILTER (since >= cut) AS at_or_after_cut,
    count(*) FILTER (start IS NULL OR place IS NULL) AS without_event
FROM shown LEFT JOIN pairs USING (user_id, item_id) LEFT JOIN places USING (user_id, target_item_id, "timestamp")

-- name: no_example_in_two_splits
-- No two rows of different splits have the same history, target and label.
WITH examples AS (
    SELECT count(*) AS rows, count(DISTINCT split) AS splits, count(*) FILTER (split = 'test') AS tests
    FROM read_parquet($interaction_windows) GROUP BY history_item_ids, history_liked, target_item_id, label
)
SELECT coalesce(sum(rows) FILTER (splits > 1), 0) AS rows_in_two_splits FROM examples

-- name: targets_per_user
-- No user has more rows in a split than one, or `targets_per_user` where windows are cut by dates.
WITH users AS (SELECT count(*) AS rows FROM read_parquet($interaction_windows) GROUP BY split, user_id)
SELECT count(*) FILTER (rows > $targets_per_user) AS users_over_limit FROM users

-- name: repeated_test_rows
WITH examples AS (
    SELECT count(*) AS rows, count(DISTINCT split) AS splits, count(*) FILTER (split = 'test') AS tests
    FROM read_parquet($interaction_windows) GROUP BY history_item_ids, history_liked, target_item_id, label
)
SELECT coalesce(sum(tests) FILTER (tests > 1), 0) / sum(tests) AS repeated_test_share FROM examples

-- name: target_reviews
-- Of the reviews that descriptions are written from; where all are meant to be (the paper's mode) none counts.
WITH drawn AS (SELECT item_id AS target_item_id, unnest(reviewers) AS user_id FROM read_parquet($item_reviews))
SELECT count(*) * $leak_safe AS target_reviews
FROM drawn SEMI JOIN read_parquet($interaction_windows) USING (user_id, target_item_id)

-- name: target_descriptions
-- Texts for `metrics.probes`: with a word that counts, and of each side the same 10,000 whenever asked.
WITH known AS (SELECT item_id, count(DISTINCT user_id) AS users FROM read_parquet($cleaned_interactions) GROUP BY item_id)
SELECT text, label, item_id AS about, if(users = 1, 'single_rater', 'others') AS side
FROM read_parquet($item_descriptions) JOIN known USING (item_id)
JOIN read_parquet($interaction_windows) AS windows ON item_id = target_item_id
WHERE regexp_matches(text, '[\p{L}\p{N}]{2}')
QUALIFY row_number() OVER (PARTITION BY side ORDER BY md5(concat_ws('/', split, user_id, target_item_id))) <= 10000 ORDER BY ALL

-- name: first_halves
WITH labels AS (SELECT * EXCLUDE (text), string_split_regex(trim(text), '\s+') AS words FROM read_parquet($reasoning_labels))
SELECT array_to_string(words[:len(words) // 2], ' ') AS text, label, user_id AS about, 'all' AS side
FROM labels WHERE regexp_matches(text, '[\p{L}\p{N}]{2}')
QUALIFY row_number() OVER (PARTITION BY side ORDER BY md5(concat_ws('/', split, user_id, target_item_id))) <= 10000 ORDER BY ALL

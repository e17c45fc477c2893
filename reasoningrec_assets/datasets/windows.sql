-- name: users
CREATE TABLE users AS
SELECT user_id, count(*) AS n, (row_number() OVER (ORDER BY user_id) - 1) // $at_once AS part
FROM read_parquet($interactions) GROUP BY user_id

-- name: ranges
SELECT min(user_id) AS first, max(user_id) AS last FROM users GROUP BY part ORDER BY part

-- name: leave_last_out
SELECT *, ['train', 'valid', 'test'][4 - back] AS split FROM events WHERE back <= 3

-- name: days
SELECT to_timestamp(min("timestamp"))::DATE, to_timestamp(max("timestamp"))::DATE FROM read_parquet($interactions)

-- name: temporal
SELECT *, CASE WHEN "timestamp" < $valid THEN 'train' WHEN "timestamp" < $test THEN 'valid' ELSE 'test' END AS split
FROM events WHERE "timestamp" >= $train
-- with repeated pairs kept, the first time after the cut counts
QUALIFY row_number() OVER (PARTITION BY split, user_id, item_id ORDER BY position) = 1

-- name: cut
-- In both protocols a row knows what its user did before the first target of its split: the rows at positions below `seen`.
-- The last `reach` rows are all of a user's that a target or a history can be, however long the sequence is.
WITH events AS (
    SELECT events.*, (n - position)::BIGINT AS back FROM read_parquet($interactions) AS events JOIN users USING (user_id)
    WHERE user_id BETWEEN $first AND $last AND n >= $shortest AND (n - position <= $reach OR position < $profile)
), targets AS (
    SELECT *, min(position) OVER same AS seen, row_number() OVER (same ORDER BY position) AS place
    FROM ({targets}) WINDOW same AS (PARTITION BY split, user_id)
), pasts AS (
    SELECT split, user_id, list(item_id ORDER BY position) AS item_ids, list(liked ORDER BY position) AS liked
    FROM events JOIN (SELECT split, user_id, seen FROM targets WHERE place = 1) USING (user_id)
    WHERE position >= seen - $history AND position < seen GROUP BY split, user_id
), heads AS (
    SELECT user_id, list(item_id ORDER BY position) AS item_ids, list(liked ORDER BY position) AS liked
    FROM events ANTI JOIN targets USING (user_id, item_id)
    WHERE position < $profile AND back > $skip AND "timestamp" < $train GROUP BY user_id
)
SELECT targets.*, pasts.item_ids AS history_item_ids, pasts.liked AS history_liked,
    coalesce(heads.item_ids, []) AS profile_item_ids, coalesce(heads.liked, []) AS profile_liked
FROM targets LEFT JOIN pasts ON pasts.split = targets.split AND pasts.user_id = targets.user_id AND place <= $most
LEFT JOIN heads ON heads.user_id = targets.user_id AND place <= $most

-- name: counts
SELECT count(DISTINCT user_id) AS users, count(*) AS windows,
    (SELECT count(*) FROM users WHERE n < $shortest) AS users_below_four_rows,
    (SELECT count(*) FROM cut WHERE seen = 0) AS targets_without_history,
    (SELECT count(*) FROM cut WHERE seen > 0 AND place > $most) AS targets_over_limit,
    count(DISTINCT user_id) FILTER (len(profile_item_ids) = 0) AS users_without_profile_items,
    count(*) FILTER (split = 'train' AND seen < $history) AS users_with_short_history,
    count(*) FILTER (seen < $history) AS windows_with_short_history,
    count(*) FILTER (split = 'train') AS train, count(*) FILTER (split = 'valid') AS valid, count(*) FILTER (split = 'test') AS test,
    count(*) FILTER (split = 'train' AND liked) AS train_liked, count(*) FILTER (split = 'valid' AND liked) AS valid_liked,
    count(*) FILTER (split = 'test' AND liked) AS test_liked
FROM cut WHERE seen > 0 AND place <= $most

-- name: windows
SELECT $dataset AS dataset, split, user_id, item_id AS target_item_id, rating AS target_rating, liked AS label,
    "timestamp" AS target_time, history_item_ids, history_liked, profile_item_ids, profile_liked
FROM cut WHERE seen > 0 AND place <= $most ORDER BY list_position(['train', 'valid', 'test'], split), user_id, position

-- name: numbered
WITH {training_events},
users AS (SELECT user_id, row_number() OVER (ORDER BY user_id) AS number FROM (SELECT DISTINCT user_id FROM training_events)),
things AS (SELECT item_id, row_number() OVER (ORDER BY item_id) AS number FROM (SELECT DISTINCT item_id FROM training_events))

-- name: fit
{numbered}
SELECT users.number AS user_number, things.number AS item_number, liked
FROM training_events JOIN users USING (user_id) JOIN things USING (item_id) ORDER BY user_number, item_number

-- name: ask
-- An unseen user or item has number 0, whose bias and factors are nothing.
{numbered}
SELECT split, windows.user_id, target_item_id, label,
    coalesce(users.number, 0) AS user_number, coalesce(things.number, 0) AS item_number
FROM read_parquet($windows) AS windows
LEFT JOIN users ON users.user_id = windows.user_id LEFT JOIN things ON things.item_id = target_item_id
ORDER BY split, windows.user_id, target_item_id

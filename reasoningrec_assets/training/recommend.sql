-- name: users
-- Everyone, with what a prompt shows of them: their profile and their last events, the target of no window being left out any
-- more; and the hash of all that they have rated.
WITH latest AS (
    SELECT user_id, item_id, liked, position, md5(string_agg(item_id, ',' ORDER BY item_id) OVER (PARTITION BY user_id)) AS rated
    FROM read_parquet($events) QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY position DESC) <= $history_length
)
SELECT user_id, list(item_id ORDER BY position) AS history_item_ids, list(liked ORDER BY position) AS history_liked,
    any_value(rated) AS rated, any_value(text) AS profile
FROM latest LEFT JOIN read_parquet($profiles) USING (user_id) GROUP BY user_id ORDER BY user_id

-- name: popular
-- The items most liked in the three genres, or of the three brands, that a user has liked most; then the most liked of all.
WITH events AS (SELECT user_id, item_id, liked FROM read_parquet($events)),
tags AS (
    SELECT item_id, unnest(list_distinct(list_concat(genres, [coalesce(brand, ''), '']))) AS tag FROM read_parquet($items)
), best AS (
    SELECT tag, item_id, count(*) FILTER (liked) AS likes FROM events JOIN tags USING (item_id) GROUP BY tag, item_id
    QUALIFY row_number() OVER (PARTITION BY tag ORDER BY likes DESC, item_id) <= $candidates + (SELECT max(n) FROM (SELECT count(*) AS n FROM events GROUP BY user_id))
), tastes AS (
    SELECT user_id, tag FROM events JOIN tags USING (item_id) WHERE liked AND tag <> '' AND list_contains($users, user_id)
    GROUP BY user_id, tag QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY count(*) DESC, tag) <= 3
    UNION ALL SELECT unnest($users), ''
)
SELECT user_id, item_id, max(if(tag = '', 0, 1e9) + likes) AS weight FROM tastes JOIN best USING (tag) GROUP BY user_id, item_id

-- name: co_liked
-- The items liked by most of those who liked what the user liked last.
WITH likes AS (SELECT user_id, item_id, position FROM read_parquet($events) WHERE liked),
last AS (
    SELECT user_id, item_id FROM likes WHERE list_contains($users, user_id)
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY position DESC) <= $history_length
)
SELECT last.user_id, theirs.item_id, count(*)::DOUBLE AS weight
FROM last JOIN likes AS others USING (item_id) JOIN likes AS theirs ON theirs.user_id = others.user_id AND others.user_id <> last.user_id
GROUP BY last.user_id, theirs.item_id

-- name: table
-- The declared pairs, those of each user in the order of their item ids.
SELECT DISTINCT user_id::VARCHAR AS user_id, item_id::VARCHAR AS item_id, 0.0 AS weight
FROM read_parquet($source) AS declared WHERE list_contains($users, declared.user_id::VARCHAR)

-- name: chosen
-- Of what a source gives, the best that a user has not rated and that the catalogue knows.
SELECT user_id, list(item_id ORDER BY weight DESC, item_id)[:$candidates] AS item_ids
FROM ({source}) AS found
WHERE EXISTS (FROM read_parquet($items) AS known WHERE known.item_id = found.item_id)
    AND NOT EXISTS (FROM read_parquet($events) AS rated WHERE rated.user_id = found.user_id AND rated.item_id = found.item_id)
GROUP BY user_id

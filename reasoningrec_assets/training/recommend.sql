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
-- The items liked by most of those who liked what the user liked last. How many like both of two items is counted once for all
-- users, not for every like of every such person anew; and what cannot come among a user's best is not added up: no item has more
-- weight than its likers times the user's last likes, and so many candidates have more already among the most liked items.
WITH events AS MATERIALIZED (
    SELECT user_id, item_id, liked, position, dense_rank() OVER (ORDER BY user_id)::INTEGER AS person, dense_rank() OVER (ORDER BY item_id)::INTEGER AS item
    FROM read_parquet($events)
), likes AS MATERIALIZED (SELECT person, item FROM events WHERE liked
), last AS MATERIALIZED (
    SELECT person, item, least(count(*) OVER (PARTITION BY person), $history_length) AS shown FROM events
    WHERE liked AND list_contains($users, user_id) QUALIFY row_number() OVER (PARTITION BY person ORDER BY position DESC) <= $history_length
), liked AS (SELECT item AS other, count(*) AS likers, row_number() OVER (ORDER BY likers DESC, other) <= 256 AS most FROM likes GROUP BY item
), pairs AS MATERIALIZED (
    SELECT mine.item, theirs.item AS other, any_value(likers) AS likers, any_value(most) AS most, count(*)::DOUBLE AS together
    FROM likes AS mine JOIN likes AS theirs USING (person) JOIN liked ON other = theirs.item
    WHERE mine.item IN (SELECT item FROM last) GROUP BY mine.item, theirs.item
), first AS MATERIALIZED (SELECT person, other, sum(together) AS weight FROM last JOIN pairs USING (item) WHERE most GROUP BY ALL
), bars AS (
    SELECT person, list(weight ORDER BY weight DESC)[$candidates] AS bar FROM first
    WHERE other IN (SELECT item FROM events SEMI JOIN read_parquet($items) USING (item_id)) AND (person, other) NOT IN (SELECT (person, item) FROM events)
    GROUP BY person
), added AS (
    FROM first UNION ALL
    SELECT person, other, sum(together) FROM last JOIN pairs USING (item) LEFT JOIN bars USING (person)
    WHERE NOT most AND likers * shown >= coalesce(bar, 0) GROUP BY ALL
)
SELECT user_id, item_id, weight
FROM added JOIN (SELECT DISTINCT user_id, person FROM events) USING (person) JOIN (SELECT DISTINCT item_id, item AS other FROM events) USING (other)

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

-- name: checked
SELECT shown.*, target_item_id AS item_id, stated, titles_not_shown, titles_unknown, copied, not_english
FROM read_parquet($shown) AS shown LEFT JOIN flags USING (user_id, target_item_id)

-- name: repeats
-- The rows of repeated pairs that the rule gives up. Only pairs that do repeat are ranked: ranking all rows sorts the whole file.
CREATE TABLE repeats AS
WITH pairs AS (SELECT user_id, item_id FROM events GROUP BY ALL HAVING count(*) > 1)
SELECT row, user_id, item_id FROM events SEMI JOIN pairs USING (user_id, item_id) WHERE {rule}
QUALIFY row_number() OVER (PARTITION BY user_id, item_id ORDER BY "timestamp" {order}, row {order}) > 1

-- name: users
-- The sample is drawn by a hash of seed and id: any engine draws the same users, and one more user changes at most one place.
CREATE TABLE users AS
WITH sizes AS (
    -- a sum, because an exclusive or would cancel rows that stand twice
    SELECT user_id, count(*) AS raw, count(repeated) AS given_up,
        sum(hash(item_id, rating, "timestamp")::HUGEINT) FILTER (repeated IS NULL) AS content
    FROM events LEFT JOIN (SELECT row, row AS repeated FROM repeats) USING (row) GROUP BY user_id
), judged AS (
    SELECT *, CASE WHEN raw < $fewest THEN 'below_min' WHEN raw - given_up < $shortest THEN 'short' ELSE 'kept' END AS verdict
    FROM sizes
), compared AS (
    SELECT * EXCLUDE (verdict), verdict = 'kept' AND count(*) OVER same > 1 AS has_twin,
        CASE WHEN $one AND verdict = 'kept' AND row_number() OVER (same ORDER BY user_id) > 1 THEN 'twin' ELSE verdict END AS verdict
    FROM judged WINDOW same AS (PARTITION BY verdict, raw - given_up, content)
), drawn AS (
    SELECT *, row_number() OVER (PARTITION BY verdict ORDER BY md5($seed || ':' || user_id), user_id) AS draw FROM compared
)
SELECT user_id, raw, given_up, has_twin, CASE WHEN verdict = 'kept' AND draw > $sample THEN 'not_sampled' ELSE verdict END AS fate
FROM drawn

-- name: counts
SELECT
    coalesce(sum(raw), 0)::BIGINT AS rows_in, coalesce(sum(raw - given_up) FILTER (fate = 'kept'), 0)::BIGINT AS rows_out,
    count(*) AS users_in, count(*) FILTER (fate = 'kept') AS users_out,
    (SELECT count(DISTINCT item_id) FROM events SEMI JOIN (FROM users WHERE fate = 'kept') USING (user_id)) AS items_out,
    coalesce(sum(raw) FILTER (fate = 'below_min'), 0)::BIGINT AS dropped_user_below_min_ratings,
    coalesce(sum(given_up) FILTER (fate <> 'below_min'), 0)::BIGINT AS dropped_repeated_pair,
    coalesce(sum(raw - given_up) FILTER (fate = 'short'), 0)::BIGINT AS dropped_user_below_four_rows,
    coalesce(sum(raw - given_up) FILTER (fate = 'twin'), 0)::BIGINT AS dropped_identical_sequence,
    coalesce(sum(raw - given_up) FILTER (fate = 'not_sampled'), 0)::BIGINT AS dropped_not_sampled,
    count(*) FILTER (has_twin) AS users_with_identical_sequence
FROM users

-- name: examples
SELECT CASE fate WHEN 'below_min' THEN 'user_below_min_ratings' WHEN 'short' THEN 'user_below_four_rows'
    WHEN 'twin' THEN 'identical_sequence' ELSE fate END AS rule, min(format('user {}, {} ratings', user_id, raw), 3) AS examples
FROM users WHERE fate <> 'kept' GROUP BY fate
UNION ALL
SELECT 'repeated_pair', min(DISTINCT format('user {}, item {}', user_id, item_id), 3)
FROM repeats SEMI JOIN (FROM users WHERE fate <> 'below_min') USING (user_id)

-- name: sequences
-- One sort gives both the order and the positions: what stands before a user's first row is what the users before it kept.
-- It sorts by the users' places, since numbers are compared faster than texts and take less memory.
WITH kept AS (
    SELECT user_id, (sum(raw - given_up) OVER (ORDER BY user_id) - (raw - given_up))::BIGINT AS before,
        (row_number() OVER (ORDER BY user_id))::INTEGER AS place
    FROM users WHERE fate = 'kept'
), sorted AS (
    SELECT user_id, item_id, rating, "timestamp", before FROM events JOIN kept USING (user_id) ANTI JOIN repeats USING (row)
    ORDER BY place, "timestamp", row
)
SELECT $dataset AS dataset, user_id, item_id, rating, coalesce(rating >= $least, rating > $above) AS liked, "timestamp",
    row_number() OVER () - 1 - before AS position
FROM sorted

-- name: copies
-- Of several raw rows for one item the first counts.
CREATE TABLE rated AS SELECT DISTINCT item_id FROM read_parquet($interactions);
CREATE VIEW copies AS
SELECT *, row_number() OVER (PARTITION BY item_id ORDER BY row) AS copy FROM raw_items SEMI JOIN rated USING (item_id)

-- name: items
SELECT $dataset AS dataset, item_id, coalesce(title, item_id) AS title, brand, price, about, coalesce(genres, []) AS genres, year,
    title IS NULL AS untitled
FROM rated LEFT JOIN (FROM copies WHERE copy = 1) USING (item_id) ORDER BY item_id

-- name: needed
CREATE TABLE needed AS
SELECT DISTINCT unnest([target_item_id] || history_item_ids || profile_item_ids) AS item_id FROM read_parquet($windows)

-- name: none
CREATE TABLE raw_reviews (user_id VARCHAR, item_id VARCHAR, rating DOUBLE, "timestamp" BIGINT, verified BOOLEAN, text VARCHAR)

-- name: known
SELECT count(*) AS known FROM raw_reviews SEMI JOIN needed USING (item_id) SEMI JOIN (FROM read_parquet($windows)) USING (user_id)

-- name: chosen
-- What does not say whether it is verified counts. Ordered by stars, every n/10th review, from a seeded start on, draws from each
-- number of stars its share; from a fixed start the best review would always be drawn, and the worst never.
WITH told AS (
    SELECT user_id, item_id, text, min(rating) AS stars, min("timestamp") AS "time"
    FROM raw_reviews SEMI JOIN needed USING (item_id) WHERE coalesce(verified, true) AND trim(text) <> '' GROUP BY 1, 2, 3
), judged AS (
    SELECT told.*, $leak_safe AND (
        target_item_id IS NOT NULL OR told.user_id IS NULL OR ($cut::BIGINT IS NOT NULL AND coalesce("time" >= $cut, true))
    ) AS withheld
    FROM told LEFT JOIN (SELECT DISTINCT user_id, target_item_id FROM read_parquet($windows)) AS targets
    ON told.user_id = targets.user_id AND item_id = target_item_id
), ranked AS (
    SELECT *, count(*) OVER item AS n, (md5_number(concat_ws(':', $seed, item_id)) % n::UHUGEINT)::BIGINT AS start,
        row_number() OVER (item ORDER BY stars, md5(concat_ws(':', $seed, user_id, text))) AS r
    FROM judged WINDOW item AS (PARTITION BY item_id, withheld)
), quoted AS (
    SELECT user_id, item_id, withheld, r, CASE WHEN NOT withheld AND (r * $most + start) // n > ((r - 1) * $most + start) // n THEN
        coalesce(format('rated {:g}: ', stars), '')
        || nullif(array_to_string(string_split(plain_text(text), ' ')[:if(n > $most, 50, 100)], ' '), '') END AS review
    FROM ranked
)
SELECT $dataset AS dataset, item_id, coalesce(list(review ORDER BY r) FILTER (review IS NOT NULL), []) AS reviews,
    coalesce(list(coalesce(user_id, '') ORDER BY r) FILTER (review IS NOT NULL), []) AS reviewers,
    count(*) FILTER (NOT withheld) AS eligible, count(*) FILTER (withheld) AS withheld
FROM needed LEFT JOIN quoted USING (item_id) GROUP BY item_id ORDER BY item_id

-- name: predictions
WITH test AS (SELECT user_id, target_item_id, label FROM read_parquet($windows) WHERE split = 'test'),
scored AS (SELECT * FROM read_parquet($predictions) WHERE split = 'test')
SELECT test.label IS NOT NULL AS known, scored.label <> test.label AS disagrees,
    count(*) OVER (PARTITION BY user_id, target_item_id) > 1 AS repeated,
    user_id, target_item_id, test.label, scored.explanation,
    coalesce(scored.score, 'nan'::DOUBLE) AS score, coalesce(scored.probability, 'nan'::DOUBLE) AS probability
FROM scored LEFT JOIN test USING (user_id, target_item_id) ORDER BY user_id, target_item_id

-- name: references
SELECT user_id, target_item_id, text FROM read_parquet($path) WHERE split = 'test' AND trim(text) <> ''

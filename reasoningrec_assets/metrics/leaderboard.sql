-- name: pairs
-- The test rows that both scored.
SELECT user_id, truth.label, mine.score, floors.score AS floor_score
FROM read_parquet($windows) AS truth JOIN read_parquet($method) AS mine USING (split, user_id, target_item_id)
JOIN read_parquet($floor) AS floors USING (split, user_id, target_item_id)
WHERE split = 'test' ORDER BY user_id, target_item_id

-- name: holm
-- The smallest p counts as often as there are tests, the next one time less, and none comes out below a smaller one.
SELECT least(1.0, max(p * (tests + 1 - place)) OVER (ORDER BY place)) AS corrected
FROM (
    SELECT p, number, count(*) OVER () AS tests, row_number() OVER (ORDER BY p, number) AS place
    FROM unnest($ps::DOUBLE[]) WITH ORDINALITY AS given (p, number)
)
ORDER BY number

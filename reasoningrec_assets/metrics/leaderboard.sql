-- name: pairs
SELECT mine.label, mine.score, floors.score AS floor_score
FROM read_parquet($method) AS mine JOIN read_parquet($floor) AS floors USING (split, user_id, target_item_id)
WHERE split = 'test' ORDER BY user_id, target_item_id

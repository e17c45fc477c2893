-- A draw orders rows by a hash, so it doesn't depend on the file's order, and one more user changes at most a few rows.
-- The separator keeps ("1", "23") and ("12", "3") apart.

-- name: sizes
SELECT count(*) FILTER (label), count(*) FILTER (NOT label) FROM read_parquet($windows) WHERE split = 'train'

-- name: train
SELECT * FROM read_parquet($windows) WHERE split = 'train'
QUALIFY row_number() OVER (
    PARTITION BY label ORDER BY md5(concat_ws(chr(31), $seed, user_id, target_item_id)), user_id, target_item_id
) <= CASE WHEN label THEN $liked ELSE $disliked END
ORDER BY user_id, target_item_id

-- name: sample
SELECT * FROM (
    SELECT * FROM read_parquet($windows) WHERE split = $split
    ORDER BY md5(concat_ws(chr(31), $seed, user_id, target_item_id)), user_id, target_item_id LIMIT $n
)
ORDER BY user_id, target_item_id

-- name: cases
WITH answers AS (SELECT * FROM read_parquet($predictions) WHERE split = 'test'),
explained AS (SELECT DISTINCT user_id, target_item_id FROM answers WHERE trim(explanation) <> ''),
picked AS (
    SELECT user_id, target_item_id, label, history_item_ids, history_liked,
        -- Rows with an explanation first; the hash is a sample that is the same in every report of the same users.
        row_number() OVER (ORDER BY explained.user_id IS NULL, md5(user_id || '/' || target_item_id)) AS place
    FROM read_parquet($windows) AS windows LEFT JOIN explained USING (user_id, target_item_id)
    WHERE split = 'test' QUALIFY place <= $users
)
SELECT picked.*, coalesce(list(
    {'method': method, 'floor': list_contains($floors, method), 'score': score, 'probability': probability, 'explanation': explanation}
    ORDER BY list_position($methods, method)
) FILTER (method IS NOT NULL), []) AS scores
FROM picked LEFT JOIN answers USING (user_id, target_item_id) GROUP BY ALL ORDER BY place

-- name: references
SELECT user_id, target_item_id, text FROM read_parquet($references)
WHERE split = 'test' AND trim(text) <> '' AND list_contains($ids, user_id)

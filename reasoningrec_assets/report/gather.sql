-- name: methods
-- A line of the leaderboard for each method, best AUC first.
SELECT method AS name, list_contains($floors, method) AS floor, coalesce(max(n) FILTER (metric = 'auc'), 0) AS rows,
    max(value) FILTER (metric = 'auc') AS auc, max(low) FILTER (metric = 'auc') AS low, max(high) FILTER (metric = 'auc') AS high,
    max(value) FILTER (metric = 'auc_pr') AS auc_pr, max(value) FILTER (metric = 'coverage') AS coverage,
    coalesce(max(value) FILTER (metric = 'missing_rows'), 0) AS missing_rows,
    coalesce(max(value) FILTER (metric = 'extra_rows'), 0) AS extra_rows,
    max(value) FILTER (metric = 'accuracy') AS accuracy, max(value) FILTER (metric = 'brier') AS brier,
    max(value) FILTER (metric = 'ece') AS ece, coalesce(max(value) FILTER (metric = 'explained_rows'), 0) AS explained_rows,
    max(value) FILTER (metric = 'bertscore_f1') AS bertscore_f1, max(low) FILTER (metric = 'bertscore_f1') AS bertscore_low,
    max(high) FILTER (metric = 'bertscore_f1') AS bertscore_high,
    max(value) FILTER (metric = 'bertscore_f1_shuffled_floor') AS bertscore_floor
FROM read_parquet($metrics) WHERE method <> 'population' GROUP BY method ORDER BY auc DESC NULLS LAST, name

-- name: population
SELECT metric, value FROM read_parquet($metrics) WHERE method = 'population'

-- name: cases
WITH answers AS (SELECT * FROM read_parquet($predictions) WHERE split = 'test'),
explained AS (SELECT DISTINCT user_id, target_item_id FROM answers WHERE trim(explanation) <> ''),
picked AS (
    SELECT user_id, target_item_id, label, history_item_ids, history_liked,
        -- Rows with an explanation first; the hash is a sample that is the same in every report of the same users.
        row_number() OVER (ORDER BY explained.user_id IS NULL, md5(user_id || '/' || target_item_id)) AS place
    FROM read_parquet($windows) AS windows LEFT JOIN explained USING (user_id, target_item_id)
    WHERE split = 'test' QUALIFY place <= $users
), titled AS (  -- raw titles of up to 423,494 characters exist; a page has to survive them
    SELECT item_id, if(len(title) <= 120, title, rtrim(title[:119]) || '…') || if(year > 0, format(' ({})', year), '') AS title
    FROM read_parquet($items)
), shown AS (
    SELECT place, list({'title': coalesce(title, item_id), 'liked': liked} ORDER BY step) AS history
    FROM (
        SELECT place, unnest(history_item_ids) AS item_id, unnest(history_liked) AS liked,
            generate_subscripts(history_item_ids, 1) AS step FROM picked
    ) LEFT JOIN titled USING (item_id) GROUP BY place
), scored AS (
    SELECT place, list({
        'method': method, 'floor': list_contains($floors, method), 'score': score, 'probability': probability,
        'explanation': if(len(explanation) <= 4000, explanation, rtrim(explanation[:3999]) || '…')
    } ORDER BY list_position($methods, method)) AS scores
    FROM picked JOIN answers USING (user_id, target_item_id) GROUP BY place
)
SELECT picked.user_id, coalesce(history, []) AS history, coalesce(scores, []) AS scores,
    {'title': coalesce(titled.title, picked.target_item_id), 'liked': picked.label} AS target,
    if(len(told.text) <= 4000, told.text, rtrim(told.text[:3999]) || '…') AS reference
FROM picked LEFT JOIN shown USING (place) LEFT JOIN scored USING (place) LEFT JOIN titled ON item_id = target_item_id
LEFT JOIN (SELECT * FROM read_parquet($references) WHERE split = 'test' AND trim(text) <> '') AS told
    ON told.user_id = picked.user_id AND told.target_item_id = picked.target_item_id
ORDER BY place

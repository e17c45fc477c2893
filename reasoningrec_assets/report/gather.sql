-- name: methods
-- A line of the leaderboard for each method, best AUC first: the main pipeline's from their metrics, all others from the board.
WITH found AS (
    SELECT method AS name, map(list(metric), list(value)) AS value,
        map(list(metric), list(low)) AS low, map(list(metric), list(high)) AS high, map(list(metric), list(n)) AS n
    FROM read_parquet($metrics) WHERE method <> 'population' GROUP BY method
), measured AS (
    SELECT name, coalesce(n['auc'], 0) AS rows, value['auc'] AS auc, low['auc'] AS low, high['auc'] AS high, value['auc_pr'] AS auc_pr,
        value['auc_per_user'] AS auc_per_user, value['coverage'] AS coverage, coalesce(value['missing_rows'], 0) AS missing_rows,
        coalesce(value['extra_rows'], 0) AS extra_rows, value['accuracy'] AS accuracy, value['threshold'] AS threshold,
        value['f1_at_threshold'] AS f1_at_threshold, value['brier'] AS brier, value['brier_recalibrated'] AS brier_recalibrated,
        value['log_loss'] AS log_loss, value['ece'] AS ece, value['ece_recalibrated'] AS ece_recalibrated,
        coalesce(value['explained_rows'], 0) AS explained_rows,
        value['explained_empty'] AS empty, value['explained_not_english'] AS not_english,
        value['label_agreement'] AS agreement, n['label_agreement'] AS stated, value['titles_faithful'] AS titles_faithful,
        value['titles_not_shown'] AS titles_not_shown, value['titles_unknown'] AS titles_unknown, n['titles_unknown'] AS titles_named,
        value['copied'] AS copied, value['distinct_2'] AS distinct_2, value['unique_sentences'] AS unique_sentences,
        value['swapped_rouge_l'] AS swapped_rouge_l, n['swapped_rouge_l'] AS swapped_texts,
        value['swapped_score_change'] AS swapped_score_change, n['swapped_score_change'] AS swapped_rows,
        value['rouge_l'] AS rouge_l, value['rouge_l_template_floor'] AS rouge_l_template, value['bertscore_f1'] AS bertscore_f1,
        low['bertscore_f1'] AS bertscore_low, high['bertscore_f1'] AS bertscore_high,
        value['bertscore_f1_shuffled_floor'] AS bertscore_floor, value['bertscore_f1_template_floor'] AS bertscore_template
    FROM found
), others AS (
    SELECT * EXCLUDE (dataset, method) REPLACE (coalesce(explained_rows, 0) AS explained_rows), method AS name, 0 AS extra_rows,
        explained_empty AS empty, explained_not_english AS not_english, label_agreement AS agreement,
        round(label_stated * (explained_rows - explained_empty)) AS stated, if(problem IS NULL, coalesce(
        (SELECT value FROM read_parquet($metrics) WHERE method = 'population' AND metric = 'test_rows') - rows, 0), 0) AS missing_rows
    FROM boards WHERE dataset = $dataset AND method NOT IN (SELECT name FROM found)
)
SELECT *, list_contains($floors, name) AS floor, NOT list_contains($floors::VARCHAR[] || $baselines::VARCHAR[], name) AS model
FROM (FROM measured UNION ALL BY NAME FROM others) ORDER BY auc DESC NULLS LAST, name

-- name: curves
-- Each method's test rows as lines in the unit square: ROC, precision over recall, and frequency over probability in ten bins.
WITH scored AS (
    SELECT method, label, score, probability FROM read_parquet($predictions)
    JOIN (SELECT split, user_id, target_item_id FROM read_parquet($windows) WHERE split = 'test') USING (split, user_id, target_item_id)
), steps AS (
    SELECT method, score, count(*) FILTER (label) AS good, count(*) FILTER (NOT label) AS bad FROM scored GROUP BY method, score
), points AS (
    SELECT method, sum(good) OVER higher / nullif(sum(good) OVER every, 0) AS likes,
        sum(bad) OVER higher / nullif(sum(bad) OVER every, 0) AS dislikes,
        sum(good) OVER higher / sum(good + bad) OVER higher AS precise
    FROM steps WINDOW higher AS (PARTITION BY method ORDER BY score DESC), every AS (PARTITION BY method)
), thinned AS (  -- a hundred points a line, whatever the number of rows; both ends always
    SELECT * FROM points WHERE likes IS NOT NULL AND dislikes IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY method, (likes * 50)::INTEGER, (dislikes * 50)::INTEGER ORDER BY likes DESC, dislikes DESC) = 1
), bins AS (
    SELECT method, greatest(ceil(probability * 10) - 1, 0)::INTEGER AS bin, count(*) AS n, avg(probability) AS expected, avg(label::INTEGER) AS happened
    FROM scored GROUP BY ALL
)
SELECT method AS name, list_contains($floors, method) AS floor, list_prepend([0, 0], list([dislikes, likes] ORDER BY dislikes, likes)) AS roc,
    list_prepend([0, arg_min(precise, likes)], list([likes, precise] ORDER BY likes, precise DESC)) AS precision_recall, any_value(bins) AS bins,
    any_value(reliability) AS reliability
FROM thinned JOIN (
    SELECT method, list({'bin': bin, 'n': n, 'expected': expected, 'happened': happened} ORDER BY bin) AS bins,
        list([expected, happened] ORDER BY bin) AS reliability FROM bins GROUP BY method
) USING (method)
GROUP BY method ORDER BY list_position($methods, method)

-- name: board
FROM boards WHERE dataset = $dataset ORDER BY auc DESC NULLS LAST, method

-- name: seeds
-- Each method's AUC over the boards, one for each seed: its spread is a deviation to both sides, or with one seed the interval.
SELECT method, count(auc) AS n, avg(auc) AS mean, stddev_samp(auc) AS sd, coalesce(mean - sd, any_value(low)) AS low,
    coalesce(mean + sd, any_value(high)) AS high, try_cast(regexp_extract(method, '^k(\d+)$', 1) AS INTEGER) AS k
FROM boards GROUP BY method ORDER BY mean DESC NULLS LAST, method

-- name: cleaning
SELECT rule, what, rows, examples FROM read_parquet($cleaning)

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
        'explanation': if(len(explanation) <= 4000, explanation, rtrim(explanation[:3999]) || '…'), 'contradicts': stated <> predicted,
        'not_shown': coalesce(titles_not_shown, [])[:5], 'unknown': list_transform(coalesce(titles_unknown, [])[:5], lambda title: title[:120]),
        'copied': copied, 'not_english': not_english
    } ORDER BY list_position($methods, method)) AS scores
    FROM picked JOIN answers USING (user_id, target_item_id) LEFT JOIN flags USING (method, user_id, target_item_id) GROUP BY place
)
SELECT picked.user_id, coalesce(history, []) AS history, coalesce(scores, []) AS scores,
    {'title': coalesce(titled.title, picked.target_item_id), 'liked': picked.label} AS target,
    if(len(told.text) <= 4000, told.text, rtrim(told.text[:3999]) || '…') AS reference
FROM picked LEFT JOIN shown USING (place) LEFT JOIN scored USING (place) LEFT JOIN titled ON item_id = target_item_id
LEFT JOIN (SELECT * FROM read_parquet($references) WHERE split = 'test' AND trim(text) <> '') AS told
    ON told.user_id = picked.user_id AND told.target_item_id = picked.target_item_id
ORDER BY place

-- name: truth
SELECT user_id, label FROM read_parquet($windows) WHERE split = 'test' ORDER BY user_id, target_item_id

-- name: problems
-- What is wrong with a file, a sentence for each fault; of rows that no window knows only the repeats count.
WITH answers AS (
    SELECT *, count(*) OVER (PARTITION BY split, user_id, target_item_id) > 1 AS repeated FROM read_parquet($predictions) WHERE split IN ('valid', 'test')
), judged AS (
    SELECT answers.method, repeated, answers.label <> truth.label AS disagrees, truth.label IS NOT NULL AS known,
        NOT coalesce(isfinite(score) AND isfinite(probability), false) AS odd
    FROM answers LEFT JOIN read_parquet($windows) AS truth USING (split, user_id, target_item_id)
), faults AS (
    SELECT 'the file holds rows of ' || string_agg(DISTINCT method, ', ' ORDER BY method) AS problem FROM judged WHERE method <> $method
    UNION ALL SELECT format('it has {} rows for a user and item that it scores more than once', nullif(count(*), 0)) FROM judged WHERE repeated
    UNION ALL SELECT format('it has {} rows whose label is not the one in interaction_windows', nullif(count(*), 0)) FROM judged WHERE disagrees
    UNION ALL SELECT format('{} of {} rows have a score that is not a finite number', nullif(count(*) FILTER (odd), 0), count(*)) FROM judged WHERE known
)
FROM faults WHERE problem IS NOT NULL

-- name: predictions
SELECT user_id, target_item_id, test.label, score, probability FROM read_parquet($predictions) AS scored
JOIN (FROM read_parquet($windows) WHERE split = 'test') AS test USING (split, user_id, target_item_id) ORDER BY user_id, target_item_id

-- name: figures
-- What one query can say of a method's scores on the test rows that it covers. The threshold is that of the best F1 among the
-- validation rows' scores; rows with equal scores stand on one side of it together.
WITH truth AS (SELECT split, user_id, target_item_id, label FROM read_parquet($windows) WHERE split <> 'train'),
scored AS (SELECT truth.*, score, probability FROM read_parquet($predictions) JOIN truth USING (split, user_id, target_item_id)),
test AS (FROM scored WHERE split = 'test'),
bins AS (SELECT split, score, count(*) FILTER (label) AS likes, count(*) AS n FROM scored GROUP BY split, score),
cut AS (
    SELECT *, sum(likes) OVER above AS hits, sum(n) OVER above AS chosen, sum(likes) OVER (PARTITION BY split) AS all_likes,
        sum(n) OVER (PARTITION BY split) AS all_rows
    FROM bins WINDOW above AS (PARTITION BY split ORDER BY score DESC)
),
threshold AS (SELECT score AS edge FROM cut WHERE split = 'valid' AND all_likes > 0 AND all_likes < all_rows ORDER BY hits / (chosen + all_likes) DESC, score DESC LIMIT 1),
judged AS (SELECT label, score >= edge AS predicted FROM test CROSS JOIN threshold),
users AS (
    SELECT avg(if(good.score = bad.score, 0.5, (good.score > bad.score)::INTEGER)) AS auc
    FROM test AS good JOIN test AS bad ON good.user_id = bad.user_id AND good.label AND NOT bad.label GROUP BY good.user_id
),
covered AS (
    SELECT count(*) AS n, count(DISTINCT label) AS classes, (SELECT count(*) FROM truth WHERE split = 'test') AS population,
        (SELECT count(*) FROM read_parquet($predictions) WHERE split = 'test') - n AS outside,
        (SELECT count(explanation) FROM read_parquet($predictions) SEMI JOIN test USING (split, user_id, target_item_id)) AS explained,
        (SELECT count(*) FROM users) AS mixed,
        (SELECT struct_pack(n := count(*), classes := count(DISTINCT label)) FROM scored WHERE split = 'valid') AS valid
    FROM test
)
SELECT found[1] AS metric, found[2]::DOUBLE AS value, found[3]::BIGINT AS n
FROM (SELECT unnest([
    ('coverage', n / nullif(population, 0), population), ('missing_rows', population - n, population), ('extra_rows', outside, n + outside),
    ('one_class_only', if(classes = 1, 1, NULL), n), ('valid_one_class_only', if(valid.classes < 2, 1, NULL), valid.n), ('explained_rows', nullif(explained, 0), n),
    ('auc_pr', (SELECT sum(likes * hits / chosen) / nullif(max(all_likes), 0) FROM cut WHERE split = 'test'), n),
    ('auc_per_user', (SELECT avg(auc) FROM users), mixed), ('users_with_both_classes', mixed, n),
    ('threshold', (SELECT edge FROM threshold), n), ('accuracy_at_threshold', (SELECT avg((label = predicted)::INTEGER) FROM judged), n),
    ('f1_at_threshold', (SELECT 2 * count(*) FILTER (label AND predicted)
        / nullif(count(*) FILTER (label) + count(*) FILTER (predicted), 0) FROM judged), n),
    ('log_loss', (SELECT -avg(ln(greatest(if(label, probability, 1 - probability), 2.220446049250313e-16))) FROM test), n)
]) AS found FROM covered)
WHERE value IS NOT NULL OR metric NOT IN ('one_class_only', 'valid_one_class_only', 'explained_rows')

-- name: valid
SELECT truth.label, score FROM read_parquet($predictions) AS answers
JOIN (SELECT * FROM read_parquet($windows) WHERE split = 'valid') AS truth USING (split, user_id, target_item_id)
ORDER BY user_id, target_item_id

-- What receipts become: each statement fills the table of its name from `incoming` (receipt, its file; r, its JSON), whose rows
-- carry the key too. The columns are in the table's order.

-- name: incoming
CREATE OR REPLACE TEMP TABLE incoming AS
SELECT r->>'asset' AS asset, r->>'partition' AS partition, (r->>'sequence')::BIGINT AS sequence, r->>'data_version' AS data_version, receipt, r
FROM (SELECT unnest($files) AS receipt, unnest($texts)::JSON AS r)

-- name: check_results
SELECT asset, partition, sequence, r->>'check', (r->>'passed')::BOOLEAN, r->>'severity', r->>'run_id', (r->>'at')::TIMESTAMP,
    data_version, r->'metrics', r->'details', receipt
FROM incoming WHERE r->>'check' IS NOT NULL

-- name: materializations
SELECT asset, partition, sequence, r->>'status', r->>'run_id', (r->>'started_at')::TIMESTAMP, (r->>'finished_at')::TIMESTAMP,
    (r->>'seconds')::DOUBLE, r->>'code_version', r->>'fingerprint', data_version, r->>'kind', $root || '/lake/' || (r->>'path'),
    (r->>'bytes')::BIGINT, (r->>'row_count')::BIGINT, r->>'device', r->>'error', false, receipt
FROM incoming WHERE r->>'check' IS NULL

-- name: lineage_edges
SELECT incoming.asset, partition, sequence, data_version, edge.value->>'asset', edge.value->>'partition', edge.value->>'data_version',
    (edge.value->>'sequence')::BIGINT
FROM incoming, json_each(r, '$.upstream') AS edge

-- name: column_lineage
SELECT incoming.asset, partition, sequence, part.key, source.value->>'asset', source.value->>'column'
FROM incoming, json_each(r, '$.column_lineage') AS part, json_each(part.value) AS source

-- name: columns
SELECT asset, partition, sequence, part.key::BIGINT, part.value->>'name', part.value->>'type', (part.value->>'nullable')::BOOLEAN,
    part.value->>'description'
FROM incoming, json_each(r, '$.columns') AS part

-- name: metadata
-- Nested settings go by dotted names, so that one setting of two runs is compared with one condition.
SELECT asset, partition, sequence, 'setting', fullkey[len('$.settings.') + 1 :].replace('"', ''), if(type = 'VARCHAR', atom->>'$', value::VARCHAR)
FROM incoming, json_tree(r, '$.settings') WHERE (type <> 'OBJECT' OR value = '{}') AND fullkey <> '$.settings' AND NOT contains(fullkey, '[')
UNION ALL SELECT asset, partition, sequence, 'detail', key, value->>'$' FROM incoming, json_each(r, '$.details') WHERE r->>'check' IS NULL

-- name: metrics
SELECT asset, partition, sequence, key, value::DOUBLE FROM incoming, json_each(r, '$.metrics') WHERE r->>'check' IS NULL

-- name: artifacts
SELECT asset, partition, sequence, r->>'kind', asset, $root || '/lake/' || (r->>'path'), data_version
FROM incoming WHERE r->>'kind' <> 'table' AND r->>'path' IS NOT NULL
UNION ALL SELECT asset, partition, sequence, 'model_used', value->>'role', value->>'reference', value->>'revision' FROM incoming, json_each(r, '$.models')
UNION ALL SELECT asset, partition, sequence, 'prompt', key, NULL, value->>'$' FROM incoming, json_each(r, '$.prompts')

-- name: current
UPDATE materializations SET is_current = NOT is_current WHERE is_current <> ((asset, partition, sequence) IN (
    SELECT (asset, partition, max(sequence)) FROM materializations WHERE status = 'success' GROUP BY asset, partition))

-- name: code_versions
CREATE OR REPLACE TABLE code_versions AS SELECT unnest($names) AS name, unnest($numbers)::BIGINT AS number

-- name: leaderboard_seeds
-- A dataset and its repetitions under other seeds, <dataset>_seed<number>, together.
CREATE VIEW leaderboard_seeds AS
SELECT regexp_replace(dataset, '_seed\d+$', '') AS dataset, method, count(auc) AS n, avg(auc) AS mean_auc, stddev_samp(auc) AS sd_auc,
    min(auc) AS least_auc, max(auc) AS greatest_auc
FROM leaderboard GROUP BY ALL ORDER BY 1, mean_auc DESC NULLS LAST, method

-- What is shown of a materialization, by title: (name, value) pairs about one asset, partition and sequence.

-- name: Materialization
UNPIVOT (SELECT COLUMNS(*)::VARCHAR FROM materializations WHERE (asset, partition, sequence) = (?, ?, ?)) ON COLUMNS(*)

-- name: Failed since
SELECT 'attempt ' || sequence, error FROM materializations
WHERE (asset, partition) = (?, ?) AND sequence > ? ORDER BY sequence

-- name: Schema (? may be null)
SELECT name, concat(type, if(nullable, '?', ''), ': ', description)
FROM columns WHERE (asset, partition, sequence) = (?, ?, ?) ORDER BY position

-- name: Column lineage
SELECT column_name, string_agg(concat(upstream_asset, '.', upstream_column), ', ' ORDER BY upstream_asset)
FROM column_lineage WHERE (asset, partition, sequence) = (?, ?, ?) GROUP BY 1 ORDER BY 1

-- name: Metrics
SELECT name, value FROM metrics WHERE (asset, partition, sequence) = (?, ?, ?) ORDER BY name

-- name: Details
SELECT name, value FROM metadata WHERE (asset, partition, sequence) = (?, ?, ?) AND kind = 'detail' AND name <> 'preview' ORDER BY name

-- name: Settings
SELECT name, value FROM metadata WHERE (asset, partition, sequence) = (?, ?, ?) AND kind = 'setting' ORDER BY name

-- name: Read
SELECT concat(upstream_asset, '[', upstream_partition, ']'), 'version ' || upstream_data_version[:12]
FROM lineage_edges WHERE (asset, partition, sequence) = (?, ?, ?) ORDER BY 1

-- name: Models, prompts and files
SELECT kind, concat_ws(' ', name, reference, version[:40]) FROM artifacts WHERE (asset, partition, sequence) = (?, ?, ?) ORDER BY ALL

-- name: Checks
SELECT check_name, concat(if(passed, 'passed', 'FAILED'), ' (', lower(severity), ') ', details)
FROM check_results SEMI JOIN (FROM materializations WHERE (asset, partition, sequence) = (?, ?, ?)) USING (asset, partition, data_version)
QUALIFY row_number() OVER (PARTITION BY check_name ORDER BY sequence DESC) = 1 ORDER BY check_name

-- An empty catalogue. Each table that is filled from receipts has their key (asset, partition, sequence) too.
-- Times are UTC: any client reads them without the extension `icu`.
CREATE TABLE catalog_info (name VARCHAR, value VARCHAR);
CREATE TABLE lake_views (name VARCHAR, definition VARCHAR);
CREATE TABLE materializations (asset VARCHAR, partition VARCHAR, sequence BIGINT, status VARCHAR, run_id VARCHAR,
    started_at TIMESTAMP, finished_at TIMESTAMP, seconds DOUBLE, code_version VARCHAR, fingerprint VARCHAR,
    data_version VARCHAR, kind VARCHAR, path VARCHAR, bytes BIGINT, row_count BIGINT, device VARCHAR, error VARCHAR,
    is_current BOOLEAN, receipt VARCHAR);
CREATE TABLE lineage_edges (asset VARCHAR, partition VARCHAR, sequence BIGINT, data_version VARCHAR,
    upstream_asset VARCHAR, upstream_partition VARCHAR, upstream_data_version VARCHAR, upstream_sequence BIGINT);
CREATE TABLE column_lineage (asset VARCHAR, partition VARCHAR, sequence BIGINT, column_name VARCHAR,
    upstream_asset VARCHAR, upstream_column VARCHAR);
CREATE TABLE columns (asset VARCHAR, partition VARCHAR, sequence BIGINT, position BIGINT, name VARCHAR, type VARCHAR,
    nullable BOOLEAN, description VARCHAR);
CREATE TABLE metadata (asset VARCHAR, partition VARCHAR, sequence BIGINT, kind VARCHAR, name VARCHAR, value VARCHAR);
CREATE TABLE metrics (asset VARCHAR, partition VARCHAR, sequence BIGINT, name VARCHAR, value DOUBLE);
CREATE TABLE artifacts (asset VARCHAR, partition VARCHAR, sequence BIGINT, kind VARCHAR, name VARCHAR,
    reference VARCHAR, version VARCHAR);
CREATE TABLE check_results (asset VARCHAR, partition VARCHAR, sequence BIGINT, check_name VARCHAR, passed BOOLEAN,
    severity VARCHAR, run_id VARCHAR, checked_at TIMESTAMP, data_version VARCHAR, metrics VARCHAR, details VARCHAR,
    receipt VARCHAR);

CREATE VIEW current_materializations AS SELECT * FROM materializations WHERE is_current;

-- A run failed when the last attempt at any of its assets failed: a retry that succeeded makes it good again.
CREATE VIEW runs AS
WITH attempts AS (
    SELECT run_id, asset, partition, min(started_at) AS started_at, max(finished_at) AS finished_at,
           arg_max(status, sequence) AS status
    FROM materializations GROUP BY run_id, asset, partition
)
SELECT run_id, min(started_at) AS started_at, max(finished_at) AS finished_at,
       CASE WHEN bool_or(status = 'failed') THEN 'failed' ELSE 'success' END AS status, count(*) AS assets
FROM attempts GROUP BY run_id;

-- What a step that generates text leaves among its metrics as `generation_<name>`.
CREATE VIEW generation_statistics AS
WITH figures AS (
    SELECT asset, partition, sequence, replace(name, 'generation_', '') AS name, value
    FROM metrics WHERE starts_with(name, 'generation_')
)
FROM figures PIVOT (max(value) FOR name IN (
    'requests', 'different_requests', 'cache_hits', 'calls', 'prompt_tokens', 'completion_tokens', 'tokens_per_second',
    'seconds', 'ok', 'trimmed', 'empty', 'failed', 'failed_share', 'retried', 'over_word_limit_share', 'cost'
) GROUP BY asset, partition, sequence);

-- The walk of a lineage starts at what is current, or at the last failure where nothing ever succeeded; `via` are the assets one
-- step nearer to it. Depth is bounded by the number of materializations: receipts edited into a circle shall not hang a query.
CREATE MACRO lineage_start(of_asset, of_partition) AS TABLE
SELECT asset, partition, data_version, sequence
FROM materializations WHERE asset = of_asset AND partition = of_partition
QUALIFY row_number() OVER (ORDER BY is_current DESC, sequence DESC) = 1;

-- Upstream follows the sequence numbers that were really read: it tells the truth after an upstream was made again.
CREATE MACRO lineage_upstream(of_asset, of_partition) AS TABLE
WITH RECURSIVE walk AS (
    SELECT 0 AS depth, *, NULL::VARCHAR AS via FROM lineage_start(of_asset, of_partition)
    UNION
    SELECT w.depth + 1, e.upstream_asset, e.upstream_partition, e.upstream_data_version, e.upstream_sequence, w.asset
    FROM walk w JOIN lineage_edges e ON (e.asset, e.partition, e.sequence) = (w.asset, w.partition, w.sequence)
    WHERE w.depth < (SELECT count(*) FROM materializations)
)
SELECT min(w.depth) AS depth, w.asset, w.partition, w.data_version, w.sequence,
       coalesce(bool_or(c.data_version = w.data_version), false) AS is_current,
       string_agg(DISTINCT w.via, ', ' ORDER BY w.via) AS via
FROM walk w LEFT JOIN current_materializations c ON c.asset = w.asset AND c.partition = w.partition
GROUP BY w.asset, w.partition, w.data_version, w.sequence ORDER BY depth, w.asset, w.partition, w.sequence;

-- Downstream follows the content: a step that was reused after a forced, identical rebuild still stands on it.
CREATE MACRO lineage_downstream(of_asset, of_partition) AS TABLE
WITH RECURSIVE walk AS (
    SELECT 0 AS depth, *, NULL::VARCHAR AS via FROM lineage_start(of_asset, of_partition)
    UNION
    SELECT w.depth + 1, e.asset, e.partition, e.data_version, e.sequence, w.asset
    FROM walk w JOIN lineage_edges e
        ON (e.upstream_asset, e.upstream_partition, e.upstream_data_version) = (w.asset, w.partition, w.data_version)
        AND e.data_version IS NOT NULL
    WHERE w.depth < (SELECT count(*) FROM materializations)
)
SELECT min(w.depth) AS depth, w.asset, w.partition, w.data_version, w.sequence,
       coalesce(bool_or(c.data_version = w.data_version), false) AS is_current,
       string_agg(DISTINCT w.via, ', ' ORDER BY w.via) AS via
FROM walk w LEFT JOIN current_materializations c ON c.asset = w.asset AND c.partition = w.partition
GROUP BY w.asset, w.partition, w.data_version, w.sequence ORDER BY depth, w.asset, w.partition, w.sequence;

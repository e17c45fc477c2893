-- An empty catalogue. Each table that is filled from receipts has their key (asset, partition, sequence) too.
-- Times are UTC: any client reads them without the extension `icu`.
CREATE TABLE catalog_info (name VARCHAR, value VARCHAR);
CREATE TABLE lake_views (name VARCHAR, definition VARCHAR);
CREATE TABLE code_versions (name VARCHAR, number BIGINT);  -- of the code that synced last, see lake/code_versions.toml
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
       CASE WHEN bool_or(status = 'failed') THEN 'failed' ELSE 'success' END AS status,
       count(*) FILTER (NOT starts_with(asset, 'runs/')) AS assets -- the sensor's receipt of a failed run is none
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

-- Current materializations that a new run would make again: an upstream was replaced since it was read, the code of the asset is
-- newer by now, here or where another partition was made, or what they read is stale itself. `reason` names the first cause.
CREATE VIEW stale_partitions AS
WITH RECURSIVE current AS (SELECT asset, partition, sequence, code_version, finished_at FROM current_materializations),
-- by its number, which grows with every change: clocks of several machines say nothing of an order
newest_code AS (
    SELECT asset, max(number) AS number FROM (
        SELECT asset, try_cast(code_version AS BIGINT) AS number FROM materializations
        UNION ALL SELECT asset, coalesce((SELECT number FROM code_versions WHERE name = split_part(asset, '/', 1)),
            (SELECT number FROM code_versions WHERE name = split_part(asset, '/', -1))) FROM (SELECT DISTINCT asset FROM current)
    ) GROUP BY asset
),
causes AS (
    SELECT c.asset, c.partition, e.upstream_asset || ' was replaced' AS reason
    FROM current c JOIN lineage_edges e USING (asset, partition, sequence)
    JOIN current_materializations u ON u.asset = e.upstream_asset AND u.partition = e.upstream_partition
    WHERE u.data_version <> e.upstream_data_version
    UNION ALL
    SELECT c.asset, c.partition, format('made by code {}, the newest is {}', c.code_version, n.number)
    FROM current c JOIN newest_code n USING (asset) WHERE c.code_version <> n.number::VARCHAR
), walk AS (
    SELECT *, 0 AS depth FROM causes
    UNION
    SELECT c.asset, c.partition, format('{} is stale', w.asset), w.depth + 1
    FROM walk w JOIN lineage_edges e ON e.upstream_asset = w.asset AND e.upstream_partition = w.partition
    JOIN current c ON (c.asset, c.partition, c.sequence) = (e.asset, e.partition, e.sequence)
    WHERE w.depth < (SELECT count(*) FROM current)
)
SELECT asset, partition, arg_min(reason, (depth, reason)) AS reason FROM walk GROUP BY asset, partition ORDER BY partition, asset;

-- What differs between two materializations of a partition: settings, code, the versions that were read, and figures.
CREATE MACRO differences(of_asset, of_partition, one, other) AS TABLE
WITH facts AS (
    SELECT sequence, 'setting' AS kind, name, value FROM metadata
    WHERE asset = of_asset AND partition = of_partition AND kind = 'setting'
    UNION ALL SELECT sequence, 'metric', name, value::VARCHAR FROM metrics WHERE asset = of_asset AND partition = of_partition
    UNION ALL SELECT sequence, 'upstream', upstream_asset, upstream_data_version
    FROM lineage_edges WHERE asset = of_asset AND partition = of_partition
    UNION ALL SELECT sequence, 'code', fact.name, fact.value
    FROM materializations, (SELECT unnest([{'name': 'code_version', 'value': code_version}, {'name': 'data_version', 'value': data_version},
        {'name': 'status', 'value': status}, {'name': 'device', 'value': device}]) AS fact)
    WHERE asset = of_asset AND partition = of_partition
)
SELECT coalesce(a.kind, b.kind) AS kind, coalesce(a.name, b.name) AS name, a.value AS before, b.value AS after
FROM (FROM facts WHERE sequence = one) a FULL JOIN (FROM facts WHERE sequence = other) b ON a.kind = b.kind AND a.name = b.name
WHERE a.value IS DISTINCT FROM b.value ORDER BY kind, name;

-- The models, prompts and generated texts that stand behind an asset as it is, over any depth.
CREATE MACRO made_with(of_asset, of_partition) AS TABLE
SELECT DISTINCT l.asset, a.kind, a.name, a.reference, a.version
FROM lineage_upstream(of_asset, of_partition) l JOIN artifacts a USING (asset, partition, sequence) ORDER BY ALL;

-- The lineage as a Mermaid flowchart, which Markdown renders on most hosts.
CREATE MACRO lineage_mermaid(of_asset, of_partition) AS (
    WITH nodes AS (SELECT asset, partition, sequence, is_current FROM lineage_upstream(of_asset, of_partition)),
    drawn AS (
        SELECT DISTINCT format('  {}["{}"] --> {}["{}"]', md5(e.upstream_asset)[:8], e.upstream_asset, md5(e.asset)[:8], e.asset) AS line
        FROM nodes JOIN lineage_edges e USING (asset, partition, sequence)
        UNION ALL SELECT format('  style {} stroke-dasharray: 5', md5(asset)[:8]) FROM nodes WHERE NOT is_current
    )
    SELECT 'flowchart LR' || coalesce(chr(10) || string_agg(line, chr(10) ORDER BY line), '') FROM drawn
);

-- Every attempt as an OpenLineage run event; a host that wants them reads one line of JSON from each row.
CREATE VIEW openlineage AS
WITH inputs AS (
    SELECT asset, partition, sequence, list({'namespace': 'reasoningrec', 'name': upstream_asset || '/' || upstream_partition,
        'facets': {'version': {'_producer': 'urn:reasoningrec_assets',
            '_schemaURL': 'https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json', 'datasetVersion': upstream_data_version}}}
        ORDER BY upstream_asset) AS inputs
    FROM lineage_edges GROUP BY ALL
), fields AS (
    SELECT asset, partition, sequence, list({'name': name, 'type': type, 'description': description} ORDER BY position) AS fields
    FROM columns GROUP BY ALL
), sources AS (
    SELECT asset, partition, sequence, column_name, list({'namespace': 'reasoningrec', 'name': upstream_asset || '/' || partition,
        'field': upstream_column} ORDER BY ALL) AS sources
    FROM column_lineage GROUP BY ALL
), lineage AS (
    SELECT asset, partition, sequence, map(list(column_name ORDER BY column_name), list({'inputFields': sources} ORDER BY column_name)) AS fields
    FROM sources GROUP BY ALL
)
SELECT m.asset, m.partition, m.sequence, to_json({
    'eventType': if(m.status = 'success', 'COMPLETE', 'FAIL'), 'eventTime': strftime(m.finished_at, '%Y-%m-%dT%H:%M:%S.%fZ'),
    'producer': 'urn:reasoningrec_assets', 'schemaURL': 'https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent',
    'run': {'runId': md5(concat_ws('/', m.asset, m.partition, m.sequence))::UUID::VARCHAR, 'facets': map_from_entries(list_filter([
        {'k': 'parent', 'v': to_json({'_producer': 'urn:reasoningrec_assets',
            '_schemaURL': 'https://openlineage.io/spec/facets/1-0-1/ParentRunFacet.json',
            'run': {'runId': coalesce(try_cast(m.run_id AS UUID), md5(m.run_id)::UUID)::VARCHAR}, 'job': {'namespace': 'dagster', 'name': 'reasoningrec_assets'}})},
        {'k': 'errorMessage', 'v': if(m.error IS NULL, NULL, to_json({'_producer': 'urn:reasoningrec_assets',
            '_schemaURL': 'https://openlineage.io/spec/facets/1-0-1/ErrorMessageRunFacet.json',
            'message': m.error, 'programmingLanguage': 'PYTHON'}))}], lambda facet: facet.v IS NOT NULL))},
    'job': {'namespace': 'reasoningrec', 'name': m.asset}, 'inputs': coalesce(inputs, []),
    'outputs': if(m.status = 'success', [{'namespace': 'reasoningrec', 'name': m.asset || '/' || m.partition, 'facets': {
        'version': {'_producer': 'urn:reasoningrec_assets',
            '_schemaURL': 'https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json', 'datasetVersion': m.data_version},
        'schema': {'_producer': 'urn:reasoningrec_assets',
            '_schemaURL': 'https://openlineage.io/spec/facets/1-1-1/SchemaDatasetFacet.json', 'fields': coalesce(fields.fields, [])},
        'columnLineage': {'_producer': 'urn:reasoningrec_assets',
            '_schemaURL': 'https://openlineage.io/spec/facets/1-2-0/ColumnLineageDatasetFacet.json', 'fields': coalesce(lineage.fields, MAP {})}}}], [])
})::VARCHAR AS event
FROM materializations m LEFT JOIN inputs USING (asset, partition, sequence) LEFT JOIN fields USING (asset, partition, sequence)
LEFT JOIN lineage USING (asset, partition, sequence);

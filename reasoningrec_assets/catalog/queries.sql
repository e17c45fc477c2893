-- Questions that people ask of the catalogue; values are bound by position.

-- name: current
SELECT asset, partition, sequence AS seq, row_count AS rows, round(seconds, 1) AS seconds,
       coalesce(data_version[:12], status) AS version, strftime(finished_at, '%Y-%m-%d %H:%M') AS "finished (UTC)"
FROM materializations WHERE partition = coalesce(?, partition) AND NOT starts_with(asset, 'runs/')  -- a failed run is no asset
QUALIFY row_number() OVER (PARTITION BY asset, partition ORDER BY is_current DESC, sequence DESC) = 1
ORDER BY partition, started_at, asset

-- name: sequence
SELECT sequence FROM materializations WHERE (asset, partition) = (?, ?) ORDER BY is_current DESC, sequence DESC LIMIT 1

-- name: population
SELECT metric, if(value = floor(value), value::BIGINT::VARCHAR, round(value, 4)::VARCHAR) AS value FROM evaluation_metrics
WHERE dataset = ? AND method = 'population' AND value IS NOT NULL ORDER BY metric NOT IN ('rows_in', 'test_rows', 'liked_share'), metric

-- name: upstream
SELECT concat(repeat('  ', depth), asset, '[', partition, ']') AS asset, coalesce(u.data_version[:12], 'failed') AS version,
       coalesce(run_id[:8], 'unknown') AS run, via AS "read by", if(u.is_current, '', 'replaced since') AS note
FROM lineage_upstream(?, ?) u LEFT JOIN materializations m USING (asset, partition, sequence)
ORDER BY depth, u.asset, u.sequence

-- name: evaluation
WITH figures AS (
    SELECT DISTINCT method, metric, value, n, high - low > 2 * ? AS wide,
           format('{:.3f}', value) || if(low IS NULL, '', format(' [{:.3f}, {:.3f}]', low, high)) AS figure
    FROM evaluation_metrics WHERE dataset = ? AND method <> 'population'
)
SELECT method || if(bool_or(wide AND metric = 'auc'), ' *', '') AS method, min(n) FILTER (metric = 'auc') AS n,
       max(figure) FILTER (metric = 'auc') AS auc, max(figure) FILTER (metric = 'accuracy') AS accuracy,
       max(figure) FILTER (metric = 'brier') AS brier, max(figure) FILTER (metric = 'coverage') AS coverage
FROM figures GROUP BY figures.method ORDER BY max(value) FILTER (metric = 'auc') DESC NULLS LAST, figures.method

-- name: live_keys
SELECT DISTINCT cache_key FROM read_parquet($tables, union_by_name = true)

-- name: export
-- A gc that was killed leaves a key in two shards: the same answer, and one row for it.
COPY (
    SELECT tables.* EXCLUDE (filename), receipts.* EXCLUDE (path), answers.* EXCLUDE (key)
    FROM read_parquet($tables, union_by_name = true, filename = true) AS tables
    JOIN receipts ON tables.filename = receipts.path
    LEFT JOIN (SELECT * FROM shards QUALIFY row_number() OVER (PARTITION BY key ORDER BY seconds) = 1) AS answers
    ON tables.cache_key = answers.key
    ORDER BY receipts.asset, tables.dataset, tables.cache_key
) TO $target (FORMAT parquet, COMPRESSION zstd)

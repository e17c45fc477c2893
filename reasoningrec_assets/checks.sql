-- name: columns
WITH found AS (SELECT DISTINCT name FROM parquet_schema($path) WHERE name NOT IN ('schema', 'list', 'element'))
SELECT count(*) FILTER (found.name IS NULL OR declared.name IS NULL) AS differing_columns
FROM found FULL JOIN (SELECT unnest($declared) AS name) AS declared ON found.name = declared.name

-- name: balance
SELECT avg(label::int) FILTER (split = 'train') AS train_liked_share, avg(label::int) FILTER (split = 'test') AS test_liked_share
FROM read_parquet($path)

-- name: coverage
SELECT min(value) AS least_coverage FROM read_parquet($path) WHERE metric = 'coverage'

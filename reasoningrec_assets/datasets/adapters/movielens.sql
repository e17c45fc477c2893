-- name: items
-- `load_items` fills in what differs by layout.
CREATE TABLE raw_items AS
WITH spelled AS (
    SELECT row, item_id, {genres} AS names,
        replace(trim(regexp_replace({title}, '\s+', ' ', 'g')), 'unkonwn', 'unknown') AS full_title
    FROM item_lines
)
SELECT row, item_id, coalesce(nullif(trim(regexp_replace(full_title, {year}, '')), ''), nullif(full_title, '')) AS title,
    NULL::VARCHAR AS brand, NULL::VARCHAR AS price, NULL::VARCHAR AS about,
    list_filter(names, lambda name: name IS NOT NULL AND name NOT IN ('', 'unknown', '(no genres listed)')) AS genres,
    try_cast(nullif(regexp_extract(full_title, {year}, 1), '') AS BIGINT) AS year
FROM spelled

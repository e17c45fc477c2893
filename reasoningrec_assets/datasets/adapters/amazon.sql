-- name: no_metadata
CREATE TABLE metadata (row BIGINT, asin VARCHAR, title VARCHAR, brand VARCHAR, price VARCHAR, listed BOOLEAN, about VARCHAR)

-- name: metadata
-- What is selected of its lines. Nearly all descriptions are lists of texts, a few of them plain.
row_number() OVER () AS row, * EXCLUDE (description), coalesce(json_type(description) = 'ARRAY', false) AS listed,
CASE WHEN listed THEN array_to_string(from_json(description, '["VARCHAR"]'), ' ') ELSE description ->> '$' END AS about

-- name: items
CREATE TABLE raw_items AS
SELECT row, asin AS item_id, {title} AS title, {brand} AS brand, CASE WHEN NOT ({rules[price_no_amount][met]}) THEN nullif(trim(price), '') END AS price,
    {about} AS about, []::VARCHAR[] AS genres, NULL::BIGINT AS year
FROM metadata WHERE NOT {rules[row_without_asin][met]}

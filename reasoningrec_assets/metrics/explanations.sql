-- name: macros
CREATE OR REPLACE TEMP MACRO plainly(text) AS lower(strip_accents(text));
CREATE OR REPLACE TEMP MACRO words(text) AS regexp_extract_all(plainly(replace(text, ' & ', ' and ')), '[\p{L}\p{M}\p{N}]+');
-- A title by its words: without a note in parentheses behind it, and "Piano, The" as "the piano".
CREATE OR REPLACE TEMP MACRO full_name(title) AS array_to_string(words(regexp_replace(regexp_replace(trim(title, ' .,;!'), '\s*\([^()]*\)$', ''),
    '^(.*), (The|An?|L[aeo]s?|L''|Il|El|Un[ae]?|D[aei][rsn]?|Eine?|Het)$', '\2 \1')), ' ');
CREATE OR REPLACE TEMP MACRO short_name(name) AS regexp_replace(name, '^(the|a|an) ', '');
CREATE OR REPLACE TEMP MACRO quotation() AS '["“«]\s*([\p{Lu}\p{Lo}\p{N}][^"“”«»]*)["”»]';
CREATE OR REPLACE TEMP MACRO numbers(name) AS regexp_extract_all(name, '\d+|\b[ivx]+\b');
CREATE OR REPLACE TEMP MACRO about_target(clause) AS
    regexp_matches(clause, '0target0|\b(this|the (target|next)) (movie|film|series|book|game|item|product|title|one)\b|\bthe target\b|^prediction:');
-- A text in order: each quotation and each word, with what stands between it and the next one.
CREATE OR REPLACE TEMP MACRO tokens(text) AS
    regexp_extract_all(text, '(' || quotation() || '|[\p{L}\p{M}\p{N}]+)[^\p{L}\p{M}\p{N}"“«]*|[^\p{L}\p{M}\p{N}]');
-- The opinions that a clause holds in lower case, in their order: denied dislike is liking, denied liking is dislike, and "films
-- like it", "a love of drama", "what they like" and "prefer something else" hold none of it. A denial does not reach across "and".
CREATE OR REPLACE TEMP MACRO denial() AS '(\b(not|never|unlikely|hardly|doubtful|fail(s|ed)?|nothing|neither)|n[''’]t)[^\w&]+(\w+[^\w&]+)';
CREATE OR REPLACE TEMP MACRO liking() AS '(lik(e|ed|es|ing)\b|enjoy|love|appreciat|appeal|interest|prefer|match|align|resonat|suit|fits?\b)\w*';
CREATE OR REPLACE TEMP MACRO opinions(clause) AS regexp_extract_all(
    regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(clause,
        '\b(love|likes?|dislikes?|hatred|appreciation)\W+(of|for)\b|\b(preferences?|interests|likes and dislikes)\b|s like\b'
            || '|\bprefer\w*\W+(\w+\W+){0,2}?(something|other|another|different|more|less)\b', ' ', 'g'),
        '\band\b', '&', 'g'),
        '\bnot only\b|' || denial() || '{0,2}?(dislik|hate|disappoint|bor(ed|ing))\w*', ' enjoy', 'g'),
        '\bpoor(ly)?\W+(fit|match|align|suit)\w*|' || denial() || '{0,6}?' || liking() || '(\W+n?or\W+(\w+\W+)?' || liking() || ')*', ' dislike', 'g'),
        '\bwhat\W+(\w+\W+){1,3}?' || liking(), ' ', 'g'),
    '\b(?:dislik|hate|disappoint|avoid|bored|boring|lik(?:e|ed|es|ing)\b|enjoy|love|appreciat|appeal|prefer|match|align|resonat|suit|fits?\b)|prediction: (?:yes|no)\b');

-- What each method was asked: two variants of one row have different prompts.
CREATE TEMP TABLE asked (method VARCHAR, user_id VARCHAR, target_item_id VARCHAR, input VARCHAR)

-- name: prompts
INSERT INTO asked
SELECT $method, user_id, target_item_id, input FROM read_parquet($path) AS prompts WHERE split = 'test'
    AND EXISTS (FROM read_parquet($predictions) AS answers WHERE explanation IS NOT NULL AND answers.method = $method AND answers.split = 'test'
        AND (answers.user_id, answers.target_item_id) = (prompts.user_id, prompts.target_item_id))

-- name: flags
-- One row for each explained test row of each method: what its text states, names and copies, told by its words alone. What they
-- do not tell is null.
WITH answers AS (
    SELECT row_number() OVER (ORDER BY method, user_id, target_item_id) AS row, method, user_id, target_item_id,
        score > 0 AS predicted, trim(explanation::VARCHAR) AS text
    FROM read_parquet($predictions) SEMI JOIN (FROM read_parquet($windows) WHERE split = 'test') USING (user_id, target_item_id)
    WHERE split = 'test' AND explanation IS NOT NULL
),
-- Items by every name that they have: "Seven (Se7en)" has two.
catalogue AS (
    SELECT item_id, title, year::VARCHAR AS year, full_name(called) AS written, short_name(written) AS name
    FROM (SELECT *, unnest([title, regexp_extract(title, '\((?:a\.k\.a\. )?([^()]{3,}\p{L})\)$', 1)]) AS called FROM read_parquet($items)) WHERE written <> ''
), names AS (SELECT DISTINCT name FROM catalogue
), forms AS (SELECT DISTINCT unnest([written, name]) AS form, name, year FROM catalogue
), windows AS (
    SELECT user_id, target_item_id, list_append(history_item_ids, target_item_id) AS item_ids,
        format('The user would {{}} "{}", after liking {} of {} before it.', 
            replace(replace(coalesce(title, target_item_id), '{', '{{'), '}', '}}'), coalesce(list_sum(history_liked::INTEGER[]), 0),
            len(history_liked)) AS template
    FROM read_parquet($windows) LEFT JOIN read_parquet($items) ON item_id = target_item_id WHERE split = 'test'
),
-- By name alone, and with the year: behind some names stands a remake too.
shown AS (
    SELECT row, name, year, bool_or(own) AS target
    FROM (
        SELECT row, name, item_id = target_item_id AS own, unnest(['', coalesce(year, '')]) AS year
        FROM (SELECT row, target_item_id, unnest(item_ids) AS item_id FROM answers JOIN windows USING (user_id, target_item_id))
        JOIN catalogue USING (item_id)
    ) GROUP BY ALL
),
-- A quotation mark inside a title ends the quotation that it stands in, in prompts as in answers: it is read as a blank. A title
-- that begins as no other does, as "eXistenZ", is read with a capital where it is quoted.
plain AS (
    SELECT row, replace(coalesce(list_reduce(list(found || chr(1) || meant ORDER BY len(found) DESC, found) FILTER (found IS NOT NULL),
        lambda said, pair: replace(said, split_part(pair, chr(1), 1), split_part(pair, chr(1), 2)), text), text), ' & ', ' and ') AS text
    FROM answers LEFT JOIN (
        SELECT title AS found, translate(title, '"“”«»', '     ') AS meant FROM catalogue WHERE regexp_matches(title, '["“”«»]')
        UNION SELECT '"' || title || '"', '"' || upper(bare[1]) || bare[2:] || '"'
        FROM (SELECT title, regexp_replace(title, '^[^\p{L}\p{N}]+', '') AS bare FROM catalogue)
        WHERE NOT regexp_matches(title, '^[\p{Lu}\p{Lo}\p{N}]|["“”«»]') AND bare <> ''
    ) ON contains(text, found)
    GROUP BY row, text
), tokens AS (
    SELECT row, tokens(text) AS tokens, list_transform(tokens, lambda token: regexp_extract(token, '^[\p{L}\p{M}\p{N}]+')) AS said FROM plain
), placed AS (
    SELECT row, unnest(tokens) AS token, generate_subscripts(tokens, 1) AS place, unnest(said[2:]) AS after, regexp_extract(token, '^' || quotation(), 1) AS span
    FROM tokens
),
-- Quoted words that begin as a title does: as they stand and, if that is none, up to a colon or full stop, since genres follow, or
-- a quotation was never closed.
readings AS (
    SELECT row, place, part, short_name(full_name(part)) AS name, choice, coalesce(nullif(regexp_extract(part, '\((\d{4})\)$', 1), ''), after) AS after
    FROM placed, LATERAL (SELECT unnest([span, regexp_replace(span, '\s*(\([^()]*\))?[:;.] .*$', '')]) AS part, unnest([1, 2]) AS choice)
    WHERE name <> '' AND (len(words(name)) <= 12 OR name IN (FROM names))
),
-- A reading that is no title may be one misspelt: few letters differ, but no number and neither end, as in sequels and plurals.
resolved AS (
    SELECT row, place, part, choice, after, readings.name AS said, coalesce(names.name, (
        SELECT arg_min(near.name, levenshtein(near.name, readings.name)) FROM names AS near
        WHERE near.name[1] = readings.name[1] AND near.name[-1] = readings.name[-1] AND numbers(near.name) = numbers(readings.name)
            AND abs(len(near.name) - len(readings.name)) <= 2 AND levenshtein(near.name, readings.name) <= least(len(near.name) // 6, 2)
    )) AS title
    FROM readings LEFT JOIN names USING (name)
),
-- Outside of quotes, words are a title where its year follows, or where they are two or more that are written as a name, and not
-- with a sequel's number. One word with a capital is the target's title at most, and never "I" or the first of a sentence.
runs AS (
    SELECT row, first, last, name, any_value(after) AS after, bool_or(coalesce(after = year, false)) OR last > first AS certain
    FROM (
        SELECT row, first, first + size - 1 AS last, array_to_string(said[first : last], ' ') AS run, said[last + 1] AS after,
            if(size > 1, regexp_matches(run, '^[\p{Lu}\p{Lo}\p{N}].* [\p{Lu}\p{Lo}\p{N}][^ ]*$'), regexp_matches(run, '^[\p{Lu}\p{Lo}]') AND run <> 'I'
                AND regexp_matches(tokens[first - 1], '^[\p{L}\p{M}\p{N}"“«]') AND NOT regexp_matches(tokens[first - 1], '[.!?:][^\p{L}\p{M}\p{N}]*$')
            ) AND NOT (ends_with(tokens[last], ' ') AND regexp_matches(coalesce(after, ''), '^(\d\d?|[IVX]{2,}|[VX])$')) AS capital
        FROM (SELECT *, unnest(generate_series(1, len(said))) AS first FROM tokens)
        CROSS JOIN (SELECT DISTINCT len(words(form)) AS size FROM forms)
        WHERE size <= 12 AND last <= len(said)
    ) JOIN forms ON form = plainly(run) LEFT JOIN (SELECT row, name, target FROM shown WHERE shown.year = '') USING (row, name)
    WHERE after = year OR capital AND (last > first OR target) GROUP BY row, first, last, name
),
-- Of titles that overlap, the longest. What of a quotation is no part of its title stays in the text.
found AS (
    SELECT row, first, last, name, certain, after, NULL AS part FROM runs WHERE NOT EXISTS (
        FROM runs AS longer WHERE longer.row = runs.row AND longer.first <= runs.first AND longer.last >= runs.last
            AND longer.last - longer.first > runs.last - runs.first
    )
    UNION ALL SELECT row, place, place, coalesce(arg_min(title, choice) FILTER (title IS NOT NULL), arg_max(said, choice)), true,
        arg_min(after, choice) FILTER (title IS NOT NULL),
        coalesce(arg_min(part, choice) FILTER (title IS NOT NULL), arg_max(part, choice))
    FROM resolved GROUP BY row, place
), mentions AS (
    SELECT found.*, coalesce(dated.year, '') AS year
    FROM found LEFT JOIN (SELECT DISTINCT name, year FROM catalogue) AS dated ON dated.name = found.name AND dated.year = after
), named AS (SELECT DISTINCT row, name, year FROM mentions WHERE certain
), titles AS (
    SELECT row, count(*) AS titles_named, coalesce(list(name ORDER BY name) FILTER (names.name IS NULL), []) AS titles_unknown,
        coalesce(list(name ORDER BY name) FILTER (names.name IS NOT NULL AND shown.name IS NULL), []) AS titles_not_shown
    FROM named LEFT JOIN names USING (name) LEFT JOIN shown USING (row, name, year) GROUP BY row
),
-- Titles may hold commas and opinions: in their places stand marks, which say whether they are the target's.
marked AS (
    SELECT placed.row, string_agg(CASE WHEN mark IS NULL THEN token WHEN place < last THEN '' WHEN part IS NULL THEN regexp_replace(token, '^[\p{L}\p{M}\p{N}]+', mark)
        ELSE replace(token, span, mark || span[len(part) + 1 :]) END, '' ORDER BY place) AS text
    FROM placed LEFT JOIN (SELECT mentions.*, if(target, '0target0', '0title0') AS mark FROM mentions LEFT JOIN shown USING (row, name, year)) AS found
        ON found.row = placed.row AND place BETWEEN first AND last
    GROUP BY placed.row
),
-- What a text says of its target: the last opinion in a clause about it, or else in a sentence about it.
clauses AS (
    SELECT row, place, generate_subscripts(parts, 1) AS part, about_target(unnest(parts)) AS own, opinions(unnest(parts)) AS held
    FROM (
        SELECT row, generate_subscripts(sentences, 1) AS place, unnest(sentences) AS sentence,
            regexp_split_to_array(sentence, ',|\b(but|although|though|because|while|since|whereas|despite|so|as)\b') AS parts
        FROM (SELECT row, regexp_split_to_array(lower(text), '[.!?;]+(\s|$)|\n') AS sentences FROM marked)
    ) WHERE about_target(sentence)
), stated AS (
    SELECT row, arg_max(NOT regexp_matches(held[-1], '^(dislik|hate|disappoint|avoid|bor)|no$'), (own, place, part)) AS stated
    FROM clauses WHERE held <> [] GROUP BY row
), copied AS (
    SELECT row, avg(contains(input, ' ' || array_to_string(said[first : first + 3], ' ') || ' ')::INTEGER) AS copied
    FROM (
        SELECT row, words(text) AS said, unnest(generate_series(1, len(said) - 3)) AS first, ' ' || array_to_string(words(input), ' ') || ' ' AS input
        FROM answers JOIN asked USING (method, user_id, target_item_id)
    ) GROUP BY row
)
SELECT method, user_id, target_item_id, text, predicted, stated, coalesce(titles_named, 0) AS titles_named, coalesce(titles_not_shown, []) AS titles_not_shown,
    coalesce(titles_unknown, []) AS titles_unknown, copied, format(template, if(predicted, 'like', 'dislike')) AS template,
    -- Half of the letters are of another script; or six words or more outside of quotes, and less than a tenth of them are those
    -- that an English sentence on tastes hardly does without.
    len(regexp_extract_all(text, '[^\p{Latin}\P{L}]')) * 2 > len(regexp_extract_all(text, '\p{L}'))
        OR len(own) >= 6 AND len(list_filter(own, lambda word: word IN ('the', 'and', 'of', 'to', 'is', 'with', 'that', 'this', 'they', 'user', 'for')))
            < 0.1 * len(own) AS not_english
FROM (SELECT answers.*, words(regexp_replace(plain.text, quotation(), ' ', 'g')) AS own FROM answers JOIN plain USING (row))
LEFT JOIN windows USING (user_id, target_item_id) LEFT JOIN titles USING (row) LEFT JOIN stated USING (row) LEFT JOIN copied USING (row)

-- name: figures
-- The share or count of each flag among a method's texts, and on how many rows.
-- Faithful to titles can be called what names one, and is in the language that the rules are for.
WITH written AS (SELECT *, words(text) AS said, titles_named > 0 AND NOT not_english AS judged FROM flags WHERE method = $method AND text <> ''),
grams AS (
    SELECT size, list_slice(said, first, first + size - 1) AS gram
    FROM (SELECT said, size, unnest(generate_series(1, len(said) - size + 1)) AS first FROM written CROSS JOIN (VALUES (1), (2)) AS sizes(size))
),
sentences AS (SELECT trim(unnest(regexp_split_to_array(lower(text), '[.!?]+(\s|$)|\n'))) AS sentence FROM written),
figures AS (
    SELECT count(*) AS n, [
        ('label_agreement', avg((stated = predicted)::INTEGER), count(stated)),
        ('label_stated', count(stated) / n, n),
        ('titles_faithful', avg((titles_not_shown = [] AND titles_unknown = [])::INTEGER) FILTER (judged), count(*) FILTER (judged)),
        ('titles_not_shown', sum(len(titles_not_shown)), sum(titles_named)),
        ('titles_unknown', sum(len(titles_unknown)), sum(titles_named)),
        ('explained_not_english', count(*) FILTER (not_english), n),
        ('copied', avg(copied), count(copied)),
        ('distinct_1', (SELECT count(DISTINCT gram) / nullif(count(*), 0) FROM grams WHERE size = 1), n),
        ('distinct_2', (SELECT count(DISTINCT gram) / nullif(count(*), 0) FROM grams WHERE size = 2), n),
        ('unique_sentences', (SELECT count(DISTINCT sentence) / nullif(count(*), 0) FROM sentences WHERE sentence <> ''), n)
    ] AS found
    FROM written
)
SELECT 'explained_empty' AS metric, count(*) FILTER (text = '')::DOUBLE AS value, count(*) AS n FROM flags WHERE method = $method
UNION ALL SELECT 'explained_without_reference', count(*)::DOUBLE, (SELECT count(*) FROM flags WHERE method = $method)
FROM flags ANTI JOIN (FROM read_parquet($references) WHERE split = 'test' AND trim(text) <> '') USING (user_id, target_item_id) WHERE method = $method
UNION ALL SELECT one[1], one[2], one[3]::BIGINT FROM (SELECT unnest(found) AS one FROM figures WHERE n > 0)

-- name: pairs
SELECT user_id, flags.text, reference, template
FROM flags JOIN (SELECT user_id, target_item_id, text AS reference FROM read_parquet($references) WHERE split = 'test' AND trim(text) <> '')
    USING (user_id, target_item_id)
WHERE method = $method ORDER BY user_id, target_item_id

-- name: swapped
SELECT user_id, explanation, swapped_explanation, abs(score - swapped_score) AS change, (score > 0) = (swapped_score > 0) AS same_label
FROM read_parquet($predictions) SEMI JOIN (FROM read_parquet($windows) WHERE split = 'test') USING (user_id, target_item_id)
WHERE split = 'test' AND swapped_score IS NOT NULL ORDER BY user_id, target_item_id

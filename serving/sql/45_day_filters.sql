-- Day filters: of each day that a run has computed, a Bloom filter of its events' identities. What the batch layer has counted
-- is known to the speed layer by them, however long ago it was.

-- Part `part` of a day's filter holds the hashes in range `part` of `parts` equal ones; one without events is left out.
CREATE TABLE IF NOT EXISTS serving.day_filter (
    run_id bigint REFERENCES serving.run,
    day    date,
    part   int,
    parts  int NOT NULL,
    probes int NOT NULL,
    events bigint NOT NULL,
    words  bytea NOT NULL,
    PRIMARY KEY (run_id, day, part)
);
-- Half of the bits are set: there is nothing to compress, and a block is read without the others.
ALTER TABLE serving.day_filter ALTER COLUMN words SET STORAGE EXTERNAL;

-- Part `part` of the filters of some days becomes the run's; false if it did before. Refuses if the run has ended.
CREATE OR REPLACE FUNCTION serving.write_filters(
    task_run_id bigint, part int, parts int, days date[], probes int[], events bigint[], words bytea[], OUT written boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    written := serving.claim_task(task_run_id, format('filters/%s', part));
    IF NOT written THEN
        RETURN;
    END IF;
    INSERT INTO serving.day_filter
    SELECT task_run_id, f.day, write_filters.part, write_filters.parts, f.probes, f.events, f.words
    FROM unnest(days, write_filters.probes, write_filters.events, write_filters.words) AS f (day, probes, events, words);
    -- Garbage collection finds them by their days. In order, so that two tasks cannot lock each other out.
    INSERT INTO serving.run_day SELECT task_run_id, day FROM unnest(days) AS day ORDER BY day ON CONFLICT DO NOTHING;
END
$$;

-- Which run's filter holds the events of a day: that of the run that answers for it, so a rollback is one of the filters too.
CREATE OR REPLACE VIEW serving.live_filter AS
SELECT f.* FROM serving.day_filter AS f JOIN serving.live_day AS d USING (run_id, day);

-- The live generation, and of each day that has a filter what there is to know of it; one row with a null day if there is none.
DROP FUNCTION IF EXISTS serving.filtered_days();
CREATE FUNCTION serving.filtered_days()
RETURNS TABLE (generation bigint, day date, run_id bigint, parts int, probes int)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT live.generation, f.day, f.run_id, f.parts, f.probes
    FROM (SELECT coalesce(max(generation), 0) AS generation FROM serving.publication) AS live
    LEFT JOIN (
        SELECT d.day, d.run_id, one.parts, one.probes
        FROM serving.live_day AS d
        -- All parts say the same, and there may be thousands.
        CROSS JOIN LATERAL (
            SELECT f.parts, f.probes FROM serving.day_filter AS f WHERE f.run_id = d.run_id AND f.day = d.day LIMIT 1
        ) AS one
    ) AS f ON true
$$;

-- What some parts of filters have in the blocks of some hashes. Question n is of part parts[n], and asks with
-- choices[next_places[n - 1] + 1 .. next_places[n]]: the block of choice c is number c * (blocks of the part) >> 32. The
-- answer is these blocks, in the order of the choices, or the whole part if it has at most whole_bytes[n]; no row if there is
-- no such part, or it was deleted.
CREATE OR REPLACE FUNCTION serving.ask_filters(
    run_ids bigint[], days date[], parts int[], next_places int[], choices bigint[], whole_bytes bigint[]
) RETURNS TABLE (number bigint, is_whole boolean, words bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT q.number, size.bytes <= q.whole_bytes, CASE WHEN size.bytes <= q.whole_bytes THEN f.words ELSE (
        SELECT string_agg(substr(f.words, ((c.choice * (size.bytes / 64) >> 32) * 64)::int + 1, 64), '' ORDER BY c.place)
        FROM unnest(choices[coalesce(next_places[q.number - 1], 0) + 1 : next_places[q.number]])
            WITH ORDINALITY AS c (choice, place)) END
    FROM unnest(run_ids, days, parts, whole_bytes) WITH ORDINALITY AS q (run_id, day, part, whole_bytes, number)
    JOIN serving.day_filter AS f ON f.run_id = q.run_id AND f.day = q.day AND f.part = q.part
    -- Known without reading them.
    CROSS JOIN LATERAL (SELECT octet_length(f.words) AS bytes) AS size
$$;

-- Of which days, and of which offsets (next offset by partition), an event that is sent again is recognised however late it
-- comes: that run has written their filter. Days without a filter have zero bytes: an older version has computed them.
CREATE OR REPLACE VIEW public.replay_cover AS
SELECT d.day, d.run_id, coalesce(sum(f.events), 0)::bigint AS events, coalesce(sum(octet_length(f.words)), 0)::bigint AS bytes,
       (SELECT jsonb_object_agg(c.partition, c.next_offset) FROM serving.live_cut AS c) AS cut
FROM serving.live_day AS d LEFT JOIN serving.day_filter AS f USING (run_id, day)
GROUP BY d.day, d.run_id;

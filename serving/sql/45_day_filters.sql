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
-- Half of the bits are set: there is nothing to compress.
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

-- The live generation, and of each day that has a filter the run that wrote it; one row with a null day if there is none.
CREATE OR REPLACE FUNCTION serving.filtered_days() RETURNS TABLE (generation bigint, day date, run_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT live.generation, f.day, f.run_id
    FROM (SELECT coalesce(max(generation), 0) AS generation FROM serving.publication) AS live
    LEFT JOIN (SELECT DISTINCT day, run_id FROM serving.live_filter) AS f ON true
$$;

-- The parts of a day's filter that have events; none if it was deleted.
CREATE OR REPLACE FUNCTION serving.day_filter(of_run_id bigint, of_day date)
RETURNS TABLE (part int, parts int, probes int, words bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT part, parts, probes, words FROM serving.day_filter WHERE run_id = of_run_id AND day = of_day
$$;

-- Of which days, and of which offsets (next offset by partition), an event that is sent again is recognised however late it
-- comes: that run has written their filter. Days without a filter have zero bytes: an older version has computed them.
CREATE OR REPLACE VIEW public.replay_cover AS
SELECT d.day, d.run_id, coalesce(sum(f.events), 0)::bigint AS events, coalesce(sum(octet_length(f.words)), 0)::bigint AS bytes,
       (SELECT jsonb_object_agg(c.partition, c.next_offset) FROM serving.live_cut AS c) AS cut
FROM serving.live_day AS d LEFT JOIN serving.day_filter AS f USING (run_id, day)
GROUP BY d.day, d.run_id;

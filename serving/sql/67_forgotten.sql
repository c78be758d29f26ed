-- What is forgotten: said on HDFS, known here, so that the speed layer keeps to it and the next run takes it out of all views.

-- These statements are known from now on, those among them that were not. No commit is half way meanwhile: each knows them, or
-- the next run takes it over. Runs that had begun are given up, since they may have read what is forgotten. again: the next
-- run takes all of it out once more, for a file had some that came late. Returns the last statement's number.
CREATE OR REPLACE FUNCTION serving.record_forgotten(facts jsonb, again boolean) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT again AND NOT EXISTS (
        SELECT FROM jsonb_array_elements(facts) AS n (fact)
        WHERE (n.fact ->> 'number')::bigint NOT IN (SELECT f.number FROM serving.forgotten AS f)) THEN
        RETURN (SELECT coalesce(max(f.number), 0) FROM serving.forgotten AS f);
    END IF;
    LOCK TABLE serving.speed_progress IN EXCLUSIVE MODE;
    INSERT INTO serving.forgotten (number, statement, last_run_id)
    SELECT (n.fact ->> 'number')::bigint, n.fact, (SELECT coalesce(max(r.run_id), 0) FROM serving.run AS r)
    FROM jsonb_array_elements(facts) AS n (fact)
    ON CONFLICT (number) DO UPDATE SET last_run_id = EXCLUDED.last_run_id, run_id = NULL WHERE again;
    -- guard: a run that began before is given up
    UPDATE serving.run AS r SET state = 'failed', failed_at = clock_timestamp(), error = 'something was to be forgotten meanwhile'
    WHERE r.state = 'running';
    RETURN (SELECT coalesce(max(f.number), 0) FROM serving.forgotten AS f);
END
$$;

-- For the speed layer, and for an archive that was lost and does not know them: all, in order.
CREATE OR REPLACE FUNCTION serving.forgotten_statements() RETURNS SETOF jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT statement FROM serving.forgotten ORDER BY number
$$;

-- That something is forgotten, and not what. Of a site or visitor all that happened before `until`; events and rejects are
-- what the archive had of it when it was said. run_id: the run that has taken it out of all views. A statement that was
-- lifted forgets nothing any more.
CREATE OR REPLACE VIEW public.forgotten AS
SELECT f.number, f.statement ->> 'kind' AS kind, (f.statement ->> 'said_at')::timestamptz AS said_at,
       CASE WHEN f.statement ->> 'kind' IN ('site', 'visitor')
            THEN to_timestamp((f.statement ->> 'until_us')::bigint / 1e6) END AS until,
       (f.statement ->> 'events')::bigint AS events, (f.statement ->> 'rejects')::bigint AS rejects,
       (SELECT min(l.number) FROM serving.forgotten AS l WHERE (l.statement ->> 'lifts')::bigint = f.number) AS lifted_by,
       f.run_id
FROM serving.forgotten AS f;

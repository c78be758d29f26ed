-- Earlier runs: going back to one, and reading from one. Each answers with its batch rows and all speed rows after its cut.

-- Offsets after the cut of a run that readers have now and no speed row has: epochs whose rows are gone, and what later runs
-- took over from a speed layer that lagged. Each run ended one epoch of each partition, so run_cut says which offsets it had.
CREATE OR REPLACE FUNCTION serving.missing_after(cut_run_id bigint)
RETURNS TABLE (partition int, first_offset bigint, next_offset bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH cut AS (
        SELECT c.partition, c.next_offset, c.epoch FROM serving.run_cut AS c WHERE c.run_id = cut_run_id
    ), ended AS (
        SELECT c.partition, c.epoch, c.speed_offset, c.next_offset FROM serving.run_cut AS c
        UNION ALL
        SELECT p.partition, p.epoch, p.next_offset, p.next_offset FROM serving.speed_progress AS p
    ), committed AS (
        SELECT e.partition, e.epoch, e.speed_offset AS next_offset,
               lag(e.next_offset, 1, 0::bigint) OVER (PARTITION BY e.partition ORDER BY e.epoch) AS first_offset
        FROM ended AS e
    )
    SELECT e.partition, e.first_offset, e.next_offset
    FROM committed AS e
    LEFT JOIN cut ON cut.partition = e.partition
    LEFT JOIN serving.speed_ledger AS l ON l.partition = e.partition AND l.epoch = e.epoch
    WHERE e.epoch > coalesce(cut.epoch, 0) AND coalesce(l.offsets, 0) < e.next_offset - e.first_offset
    UNION ALL
    SELECT r.partition, r.speed_offset, r.next_offset
    FROM serving.run_cut AS r
    LEFT JOIN cut ON cut.partition = r.partition
    LEFT JOIN serving.live_cut AS live ON live.partition = r.partition
    WHERE r.speed_offset < r.next_offset
        AND r.next_offset > coalesce(cut.next_offset, 0) AND r.next_offset <= coalesce(live.next_offset, 0)
    ORDER BY 1, 2
$$;

-- The same run id if it can answer; refuses if it is not kept, or if offsets after its cut would be missing.
CREATE OR REPLACE FUNCTION serving.require_kept(asked_run_id bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    missing text;
BEGIN
    -- guard: only a kept run answers
    IF NOT EXISTS (SELECT FROM serving.publication WHERE run_id = asked_run_id) THEN
        RAISE EXCEPTION 'run % is not kept; kept %', asked_run_id,
            (SELECT coalesce('are ' || string_agg(kept_run_id::text, ', ' ORDER BY kept_run_id), 'is none') FROM serving.kept_publication)
            USING ERRCODE = 'BR003';
    END IF;
    SELECT string_agg(format('offsets [%s, %s) of partition %s', first_offset, next_offset, partition), ', ') INTO missing
    FROM serving.missing_after(asked_run_id);
    -- guard: speed rows fill the rest
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'run % cannot answer: after its cut there are no speed rows of %', asked_run_id, missing
            USING ERRCODE = 'BR003';
    END IF;
    RETURN asked_run_id;
END
$$;

-- The days and the cut of a kept run are live again, of the one before the live one if none is named. It is a publication, so
-- a run that was planned before is refused. Says, of each partition, which offsets speed rows fill: [first, next).
CREATE OR REPLACE FUNCTION serving.rollback(to_run_id bigint) RETURNS TABLE (
    generation bigint, run_id bigint, before_run_id bigint, partition int, first_offset bigint, next_offset bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    live serving.publication;
    target bigint := to_run_id;
    kept_generation bigint;
BEGIN
    LOCK TABLE serving.publication IN EXCLUSIVE MODE;
    SELECT * INTO live FROM serving.publication ORDER BY generation DESC LIMIT 1;
    IF target IS NULL THEN
        SELECT max(run_id) INTO target FROM serving.publication WHERE run_id < live.run_id;
        IF target IS NULL THEN
            RAISE EXCEPTION 'no run before %is kept', coalesce('run ' || live.run_id || ', the live one, ', '')
                USING ERRCODE = 'BR003';
        END IF;
    END IF;
    IF target = live.run_id THEN
        RAISE EXCEPTION 'run % is live already', target USING ERRCODE = 'BR003';
    END IF;
    PERFORM serving.require_kept(target);
    SELECT k.generation INTO kept_generation FROM serving.kept_publication AS k WHERE k.kept_run_id = target;
    -- guard: a rollback is a publication
    INSERT INTO serving.publication VALUES (live.generation + 1, target);
    INSERT INTO serving.publication_day
    SELECT live.generation + 1, day, run_id FROM serving.publication_day WHERE generation = kept_generation;
    -- Also before there is any partition a row says what was done.
    RETURN QUERY
    SELECT live.generation + 1, target, live.run_id, p.partition, coalesce(c.next_offset, 0), p.next_offset
    FROM (VALUES (true)) AS done LEFT JOIN serving.speed_progress AS p ON true
    LEFT JOIN serving.live_cut AS c ON c.partition = p.partition ORDER BY p.partition;
END
$$;

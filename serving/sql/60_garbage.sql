-- Garbage collection, in small transactions. What is garbage stays garbage, so nothing is locked between them.

-- Runs that no kept publication is of, and that came before the oldest of those.
CREATE OR REPLACE VIEW serving.forgotten_drift AS
SELECT run_id FROM serving.run WHERE state <> 'running' AND run_id < (SELECT min(run_id) FROM serving.publication);

-- Forgets the publications that are too old to roll back to, and gives up runs that can never be published any more. A run
-- that was rolled back to has been published more than once, and takes the place of one run all the same.
CREATE OR REPLACE FUNCTION serving.prune_publications(keep_runs int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pruned bigint;
    live_generation bigint;
BEGIN
    LOCK TABLE serving.publication IN EXCLUSIVE MODE;
    SELECT max(generation) INTO live_generation FROM serving.publication;
    DELETE FROM serving.publication WHERE generation NOT IN (
        SELECT generation FROM serving.kept_publication ORDER BY generation DESC LIMIT keep_runs + 1);
    GET DIAGNOSTICS pruned = ROW_COUNT;
    UPDATE serving.run SET state = 'failed', failed_at = clock_timestamp(),
        error = format('planned on generation %s, but generation %s is live', base_generation, live_generation)
    WHERE state = 'running' AND base_generation < live_generation;
    DELETE FROM serving.drift_bucket AS b USING serving.forgotten_drift AS f WHERE f.run_id = b.run_id;
    DELETE FROM serving.drift_row AS b USING serving.forgotten_drift AS f WHERE f.run_id = b.run_id;
    DELETE FROM serving.run_task AS t USING serving.run AS r WHERE r.run_id = t.run_id AND r.state <> 'running';
    RETURN pruned;
END
$$;

-- Deletes days of one run that no kept publication points to and that no running run writes; null when there are none. At
-- least one of them, and further ones while those before have fewer than most_events events.
CREATE OR REPLACE FUNCTION serving.collect_run_days(most_events bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    garbage_run_id bigint;
    garbage_days date[];
BEGIN
    SELECT d.run_id INTO garbage_run_id
    FROM serving.run_day AS d JOIN serving.run AS r USING (run_id)
    WHERE r.state <> 'running'
        AND NOT EXISTS (SELECT FROM serving.publication_day AS p WHERE p.run_id = d.run_id AND p.day = d.day)
    LIMIT 1 FOR UPDATE OF d SKIP LOCKED;
    WITH locked AS MATERIALIZED (
        SELECT d.day FROM serving.run_day AS d
        WHERE d.run_id = garbage_run_id
            AND NOT EXISTS (SELECT FROM serving.publication_day AS p WHERE p.run_id = d.run_id AND p.day = d.day)
        ORDER BY d.day LIMIT 500 FOR UPDATE OF d SKIP LOCKED
    ), sized AS (
        -- A run that failed may have rows of a day, and no ledger: they may be many.
        SELECT k.day, coalesce(sum(l.counted), most_events) AS events
        FROM locked AS k LEFT JOIN serving.batch_ledger AS l ON l.run_id = garbage_run_id AND l.day = k.day GROUP BY k.day
    )
    SELECT array_agg(s.day ORDER BY s.day) INTO garbage_days
    FROM (SELECT day, sum(events) OVER (ORDER BY day) - events AS events_before FROM sized) AS s
    WHERE s.events_before < most_events;
    IF garbage_days IS NULL THEN
        RETURN NULL;
    END IF;
    DELETE FROM serving.run_day WHERE run_id = garbage_run_id AND day = ANY (garbage_days);
    DELETE FROM serving.batch_ledger WHERE run_id = garbage_run_id AND day = ANY (garbage_days);
    -- guard: filters go with their run's rows
    DELETE FROM serving.day_filter WHERE run_id = garbage_run_id AND day = ANY (garbage_days);
    RETURN serving.delete_run_days(garbage_run_id, garbage_days);
END
$$;

-- Epochs up to these, and offsets below, are absorbed by every kept publication, so no reader and no rollback needs what the
-- speed layer has of them.
CREATE OR REPLACE VIEW serving.absorbed_epoch AS
-- guard: epochs of kept publications stay
SELECT p.partition, min(coalesce(c.epoch, 0)) AS epoch, min(coalesce(c.next_offset, 0)) AS next_offset
FROM serving.speed_progress AS p
CROSS JOIN serving.publication AS kept
LEFT JOIN serving.run_cut AS c ON c.run_id = kept.run_id AND c.partition = p.partition
GROUP BY p.partition;

-- Deletes at most row_limit absorbed rows of each speed table, and rejects of the speed layer alone; 0 when none is left.
CREATE OR REPLACE FUNCTION serving.collect_epochs(row_limit int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rejects bigint;
BEGIN
    DELETE FROM serving.speed_ledger AS l USING serving.absorbed_epoch AS a
    WHERE a.partition = l.partition AND l.epoch <= a.epoch;
    DELETE FROM serving.reject WHERE ctid = ANY (ARRAY(
        SELECT r.ctid FROM serving.reject AS r JOIN serving.absorbed_epoch AS a
        ON a.partition = r.partition AND r."offset" < a.next_offset WHERE r.judged_by = 'speed' LIMIT row_limit));
    GET DIAGNOSTICS rejects = ROW_COUNT;
    RETURN rejects + serving.delete_absorbed(row_limit);
END
$$;

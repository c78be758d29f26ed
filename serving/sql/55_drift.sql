-- Drift: what readers had, base and absorbed speed rows together, against what a run computed of the same offsets. Both are
-- fixed once the run has begun, so nothing is locked and traffic goes on.

-- Compares all rows that the run answers for and records the result; false, and nothing is recorded, if a run took offsets
-- below the cut over from the speed layer, for then readers had less, or if readers have what is lost or forgotten by now. One snapshot: call it in REPEATABLE READ.
CREATE OR REPLACE FUNCTION serving.compare(compared_run_id bigint, false_positive_rate double precision, OUT compared boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- The planner takes the days of the base for few, and would sort the rows of all runs to find theirs.
SET enable_mergejoin = off
AS $$
DECLARE
    run serving.run;
    counted_before bigint;
    counted_after bigint;
    counted_by_speed bigint;
    first_day date;
    last_day date;
BEGIN
    SELECT * INTO run FROM serving.run AS r WHERE r.run_id = compared_run_id;
    -- While it is running in this snapshot its base and the epochs since then are kept: pruning ends it first.
    PERFORM serving.require_running(compared_run_id, run.state);
    SELECT coalesce(sum(s.counted), 0), coalesce(bool_and(s.offsets = c.next_offset - coalesce(c.base_next_offset, 0)), true)
    INTO counted_by_speed, compared
    FROM serving.cuts(compared_run_id) AS c
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(l.offsets), 0) AS offsets, sum(l.counted) AS counted FROM serving.speed_ledger AS l
        WHERE l.partition = c.partition AND l.epoch > coalesce(c.base_epoch, 0) AND l.epoch <= c.epoch
    ) AS s;
    compared := compared AND NOT EXISTS (
        SELECT FROM serving.lost_offsets AS l JOIN serving.run_cut AS c ON c.partition = l.partition
        WHERE l.run_id IS NULL AND c.run_id = compared_run_id AND l.first_offset < c.next_offset);
    -- guard: rows of what is forgotten are not written down
    compared := compared AND NOT EXISTS (SELECT FROM serving.forgotten AS f WHERE f.run_id IS NULL);
    IF NOT compared OR EXISTS (SELECT FROM serving.drift_view AS d WHERE d.run_id = compared_run_id) THEN
        RETURN;
    END IF;
    SELECT coalesce(sum(b.counted), 0) INTO counted_before
    FROM serving.batch_ledger AS b JOIN serving.compared_day(run) AS d USING (run_id, day);
    SELECT coalesce(sum(b.counted), 0) INTO counted_after FROM serving.batch_ledger AS b WHERE b.run_id = compared_run_id;
    -- As values, so that the planner leaves the rest of history alone.
    SELECT min(day), max(day) INTO first_day, last_day FROM (
        SELECT d.day FROM serving.run_day AS d WHERE d.run_id = compared_run_id
        UNION ALL
        SELECT d.day FROM serving.compared_day(run) AS d
    ) AS days;
    PERFORM serving.compare_views(
        compared_run_id, first_day::timestamp AT TIME ZONE 'UTC', (last_day + 1)::timestamp AT TIME ZONE 'UTC',
        counted_before + counted_by_speed - counted_after, counted_by_speed, false_positive_rate);
END
$$;

-- The days of the base that the run answers for anew, and whose rows they are: all of them, or those an incremental run has.
CREATE OR REPLACE FUNCTION serving.compared_day(run serving.run) RETURNS TABLE (day date, run_id bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.day, p.run_id FROM serving.publication_day AS p
    WHERE p.generation = run.base_generation AND (run.kind <> 'incremental'
        OR EXISTS (SELECT FROM serving.run_day AS d WHERE d.run_id = run.run_id AND d.day = p.day))
$$;

-- How many records the ledger says there are below a run's cut, by partition.
CREATE OR REPLACE FUNCTION serving.received_below(cut_run_id bigint) RETURNS TABLE (partition int, received bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.partition, (coalesce(b.received, 0) + coalesce((
        SELECT sum(l.received) FROM serving.speed_ledger AS l
        WHERE l.partition = c.partition AND l.epoch > coalesce(c.base_epoch, 0) AND l.epoch <= c.epoch), 0))::bigint
    FROM serving.cuts(cut_run_id) AS c
    JOIN serving.run AS r ON r.run_id = cut_run_id
    LEFT JOIN serving.publication AS p ON p.generation = r.base_generation
    LEFT JOIN serving.run_cut AS b ON b.run_id = p.run_id AND b.partition = c.partition
$$;

CREATE OR REPLACE FUNCTION serving.end_audit(audited_run_id bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE serving.run SET state = 'audited', audited_at = clock_timestamp()
    WHERE run_id = audited_run_id AND kind = 'audit' AND state = 'running';
    SELECT serving.sum_up(audited_run_id);
$$;

-- A bucket's rows in which the speed layer had a share, and all that differ: how many, and the sums of their values. A value
-- of a sketch is how many it stands for; rows_differ compares the sketches themselves, byte for byte.
CREATE OR REPLACE VIEW public.drift AS
SELECT b.run_id, b.view_name, b.bucket, m.measure, b.row_count, m.rows_differ, m.speed_value, m.batch_value,
       m.speed_value - m.batch_value AS difference
FROM serving.drift_bucket AS b
CROSS JOIN LATERAL unnest(b.measures, b.rows_differ, b.speed_values, b.batch_values)
    AS m (measure, rows_differ, speed_value, batch_value);

-- The rows that differ, at most 1,000 of a run and view, unexplained ones first. NULL: there is no such row.
CREATE OR REPLACE VIEW public.drift_rows AS
SELECT run_id, view_name, bucket, keys, measure, speed_value, batch_value,
       coalesce(speed_value, 0) - coalesce(batch_value, 0) AS difference, cause
FROM serving.drift_row;

-- Whether the differences of a run are what the speed layer's filter may cost. It may take one new event in
-- 1 / false_positive_rate for a repeat (dropped), and count a repeat that came too late or in another partition (repeated).
-- Anything else is wrong, and so is more than four standard deviations and three events above the expected drops.
CREATE OR REPLACE VIEW public.drift_summary AS
SELECT run_id, r.kind, coalesce(r.published_at, r.audited_at) AS compared_at, view_name, d.row_count, rows_differ, unexplained,
       dropped, repeated, ledger_difference, speed_counted, expected_drops, allowed_drops,
       CASE WHEN rows_differ = 0 AND ledger_difference = 0 THEN 'equal'
            WHEN unexplained > 0 OR repeated - dropped <> ledger_difference OR dropped > allowed_drops THEN 'wrong'
            ELSE 'explained' END AS verdict
FROM serving.drift_view AS d
JOIN serving.run AS r USING (run_id)
CROSS JOIN LATERAL (SELECT speed_counted * false_positive_rate AS expected_drops) AS e
CROSS JOIN LATERAL (SELECT floor(expected_drops + 4 * sqrt(expected_drops) + 3)::bigint AS allowed_drops) AS a
WHERE state <> 'failed';

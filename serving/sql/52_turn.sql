-- One batch run computes at a time, and says how far it is. What keeps readers right is the fence in serving.publish alone:
-- a turn only saves a run from work that would be refused.

-- True if the caller's session has the turn from now on, until it ends. Whoever has it knows that no driver of another run
-- lives, so runs that have not ended are marked; audits take no turn. kept_run_id: the caller's own run, if it has begun.
-- Who is refused has waited until whoever got the turn before had marked them, so it sees none of a dead driver's.
CREATE OR REPLACE FUNCTION serving.take_turn(kept_run_id bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- guard: who is refused sees no dead run
    PERFORM pg_advisory_xact_lock(x'7475726e'::int, 2);
    -- guard: one run has the turn
    IF NOT pg_try_advisory_lock(x'7475726e'::int, 1) THEN
        RETURN false;
    END IF;
    UPDATE serving.run SET state = 'failed', failed_at = clock_timestamp(), error = 'its driver was gone when the next run began'
    WHERE state = 'running' AND kind <> 'audit' AND run_id IS DISTINCT FROM kept_run_id;
    RETURN true;
END
$$;

-- What the driver of a run says of it. Refuses if the run has ended: its driver may stop then.
CREATE OR REPLACE FUNCTION serving.record_progress(
    of_run_id bigint, new_step text, new_tasks_done int, new_tasks int
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM serving.require_running(of_run_id, (SELECT r.state FROM serving.run AS r WHERE r.run_id = of_run_id));
    INSERT INTO serving.run_progress AS p (run_id, step, tasks_done, tasks, advanced_at, seen_at)
    VALUES (of_run_id, new_step, new_tasks_done, new_tasks, clock_timestamp(), clock_timestamp())
    ON CONFLICT (run_id) DO UPDATE SET
        step = EXCLUDED.step, tasks_done = EXCLUDED.tasks_done, tasks = EXCLUDED.tasks, seen_at = EXCLUDED.seen_at,
        advanced_at = CASE WHEN (p.step, p.tasks_done) = (EXCLUDED.step, EXCLUDED.tasks_done)
            THEN p.advanced_at ELSE EXCLUDED.advanced_at END;
END
$$;

-- Least privilege: each role may do what its layer does, nothing else. PUBLIC may do nothing.
RESET ROLE;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA serving FROM PUBLIC;
-- Whoever may take an advisory lock may keep runs and merges waiting for ever, and a large object is a way to fill the disk.
-- These functions are the owner's; to let go of a lock, as connection pools do, stays free. What is not ours to revoke, as on a
-- managed server, stays as it is.
DO $$
DECLARE one regprocedure;
BEGIN
    -- guard: locks and large objects are not a reader's
    FOR one IN SELECT oid FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace
            AND proname ~ '^(pg_(try_)?advisory_(xact_)?lock|lo_|loread$|lowrite$)' LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', one);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO braid_owner', one);
    END LOOP;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'functions for locks and large objects stay as the server has them: %', SQLERRM;
END
$$;
GRANT USAGE ON SCHEMA public, serving TO reader, speed, batch;

GRANT SELECT ON public.catalogue, public.replay_cover, public.sources TO reader;
GRANT SELECT ON public.quarantine_state, public.runs TO reader, batch;
GRANT SELECT ON public.ledger, public.log_positions, public.lost_offsets, public.forgotten, public.drift, public.drift_rows, public.drift_summary TO reader, batch;
GRANT SELECT ON public.quarantine TO reader;
GRANT EXECUTE ON FUNCTION serving.histogram_compact, serving.histogram_gather, serving.histogram_settle,
    serving.percentile_gather TO reader, braid_owner;
-- Functions in a view are called as whoever asks it, who may be anybody that was let read it.
GRANT EXECUTE ON FUNCTION serving.absorbed_floor, serving.read_absorbed_floor, serving.local_day, serving.refuse_zone TO PUBLIC;

GRANT EXECUTE ON FUNCTION serving.positions, serving.require_catalogue TO speed, batch;
GRANT EXECUTE ON FUNCTION serving.commit_range, serving.merge_appended, serving.filtered_days, serving.ask_filters TO speed;
GRANT EXECUTE ON FUNCTION serving.forgotten_statements TO speed, batch;
GRANT EXECUTE ON FUNCTION serving.begin_run, serving.cuts, serving.add_surveyed, serving.surveyed_without,
    serving.write_task, serving.write_filters, serving.judge_rejects, serving.add_rejects, serving.publish, serving.fail_run,
    serving.compare, serving.received_below, serving.end_audit, serving.take_turn, serving.record_progress,
    serving.prune_publications, serving.collect_run_days, serving.collect_epochs, serving.drop_version,
    serving.rollback, serving.resolve, serving.record_lost, serving.record_forgotten, serving.record_sources TO batch;
GRANT EXECUTE ON FUNCTION serving.require_kept TO reader, braid_owner;

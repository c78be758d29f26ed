-- What the batch layer may do. SECURITY DEFINER: the role itself can touch no table.

-- Everything that is committed now belongs to the run; what comes after goes to new epochs. Where archived says that the
-- archive is ahead of the speed layer, the run takes those offsets over and the speed layer goes on after them. It is a full
-- run if a view has no history yet, or if what earlier runs have counted is lost or forgotten, whatever was asked for. The
-- log_ arguments say in which log the archive of a partition ends: it must be the speed layer's, unless the run takes over
-- what the archive has of a log that followed (its shift is greater). In the partitions going_on the speed layer could still
-- go on by the old numbers: what it has read there, the log that followed has too, so the run takes that over as well, by the
-- new ones.
CREATE OR REPLACE FUNCTION serving.begin_run(
    code_catalogue text, asked_kind text, archived_partitions int[], archived_next_offsets bigint[],
    log_partitions int[], log_topic_ids text[], log_leader_epochs int[], log_shifts bigint[], going_on int[],
    OUT run_id bigint, OUT base_generation bigint, OUT run_kind text
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    new_run_id bigint;
    other_log text;
BEGIN
    -- The whole table: a partition whose first commit comes while this waits would have a row that is not locked.
    -- guard: a run begins while nothing is committed
    LOCK TABLE serving.speed_progress IN EXCLUSIVE MODE;
    PERFORM serving.add_partitions(archived_partitions);
    PERFORM serving.require_catalogue(code_catalogue);
    SELECT format('the archive of partition %s ends in the topic with the id %s (shift %s), but the speed layer has read %s (shift %s)',
        p.partition, l.topic_id, l.shift, p.topic_id, p.shift) INTO other_log
    FROM serving.speed_progress AS p
    JOIN unnest(log_partitions, log_topic_ids, log_leader_epochs, log_shifts) AS l (partition, topic_id, leader_epoch, shift)
        USING (partition)
    LEFT JOIN unnest(archived_partitions, archived_next_offsets) AS a (partition, next_offset) USING (partition)
    WHERE (l.topic_id <> p.topic_id OR l.shift <> p.shift)
        AND NOT (l.shift > p.shift AND (coalesce(a.next_offset > p.next_offset, false)
            OR (l.topic_id = p.topic_id AND p.partition = ANY (going_on))))
    ORDER BY p.partition LIMIT 1;
    -- guard: a run has one log
    IF other_log IS NOT NULL THEN
        RAISE EXCEPTION '%', other_log USING ERRCODE = 'BR004';
    END IF;
    run_kind := asked_kind;
    -- guard: a view without history is computed in full
    IF asked_kind = 'incremental' AND EXISTS (SELECT FROM serving.view_version WHERE state = 'building') THEN
        run_kind := 'full';
    END IF;
    -- guard: a loss below the live cut is taken out of all days
    IF asked_kind = 'incremental' AND EXISTS (
        SELECT FROM serving.lost_offsets AS l JOIN serving.live_cut AS c ON c.partition = l.partition
        WHERE l.run_id IS NULL AND l.is_gap AND l.first_offset < c.next_offset) THEN
        run_kind := 'full';
    END IF;
    -- guard: what is forgotten leaves all days
    IF asked_kind = 'incremental' AND EXISTS (SELECT FROM serving.forgotten WHERE run_id IS NULL) THEN
        run_kind := 'full';
    END IF;
    SELECT coalesce(max(generation), 0) INTO base_generation FROM serving.publication;
    INSERT INTO serving.run (kind, base_generation) VALUES (begin_run.run_kind, begin_run.base_generation)
    RETURNING run.run_id INTO new_run_id;
    INSERT INTO serving.run_cut (run_id, partition, next_offset, epoch, speed_offset, topic_id, leader_epoch, shift)
    SELECT new_run_id, partition, greatest(p.next_offset, a.next_offset), p.epoch, p.next_offset,
        CASE WHEN a.next_offset > p.next_offset THEN l.topic_id ELSE p.topic_id END,
        CASE WHEN a.next_offset > p.next_offset THEN l.leader_epoch ELSE p.leader_epoch END,
        CASE WHEN a.next_offset > p.next_offset THEN coalesce(l.shift, p.shift) ELSE p.shift END
    FROM serving.speed_progress AS p
    LEFT JOIN unnest(archived_partitions, archived_next_offsets) AS a (partition, next_offset) USING (partition)
    LEFT JOIN unnest(log_partitions, log_topic_ids, log_leader_epochs, log_shifts) AS l (partition, topic_id, leader_epoch, shift)
        USING (partition);
    -- It may have committed more since the run looked.
    -- guard: what the speed layer counts while a run looks is below its cut
    UPDATE serving.run_cut AS c SET next_offset = p.next_offset - p.shift + l.shift,
        topic_id = l.topic_id, leader_epoch = p.leader_epoch, shift = l.shift
    FROM serving.speed_progress AS p
    JOIN unnest(log_partitions, log_topic_ids, log_shifts) AS l (partition, topic_id, shift) USING (partition)
    WHERE c.run_id = new_run_id AND c.partition = p.partition AND p.partition = ANY (going_on)
        AND l.shift > p.shift AND l.topic_id = p.topic_id AND p.next_offset - p.shift + l.shift > c.next_offset;
    -- guard: epoch increment
    -- guard: rescued offsets are skipped
    -- All partitions go on in one epoch, also where one came later, or absorbed_floor would be the lowest.
    UPDATE serving.speed_progress AS p SET next_offset = c.next_offset,
        epoch = (SELECT max(every.epoch) + 1 FROM serving.run_cut AS every WHERE every.run_id = new_run_id),
        topic_id = c.topic_id, leader_epoch = c.leader_epoch, shift = c.shift
    FROM serving.run_cut AS c WHERE c.run_id = new_run_id AND c.partition = p.partition;
    run_id := new_run_id;
END
$$;

-- What is recorded stays as it is, and only what is not yet is added; a further resumption of the same loss adds nothing.
-- is_known: the run of this transaction has read the archive without these offsets.
CREATE OR REPLACE FUNCTION serving.record_lost(facts jsonb, is_known boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT is_known THEN
        -- A run that begins waits for this, or is known to it: it locks the whole table.
        PERFORM FROM serving.speed_progress AS p ORDER BY p.partition FOR UPDATE;
    END IF;
    INSERT INTO serving.lost_offsets (partition, first_offset, next_offset, reason, is_gap, last_run_id)
    SELECT f.partition, lower(added.piece), upper(added.piece), f.reason, f.is_gap,
        CASE WHEN is_known THEN 0 ELSE (SELECT coalesce(max(r.run_id), 0) FROM serving.run AS r) END
    FROM jsonb_to_recordset(facts)
        AS f (partition int, first_offset bigint, next_offset bigint, reason text, is_gap boolean)
    CROSS JOIN LATERAL unnest(int8multirange(int8range(f.first_offset, f.next_offset)) - coalesce((
        SELECT range_agg(int8range(l.first_offset, l.next_offset)) FROM serving.lost_offsets AS l
        WHERE l.partition = f.partition), int8multirange())) AS added (piece)
    WHERE f.is_gap OR NOT EXISTS (
        SELECT FROM serving.lost_offsets AS l WHERE l.partition = f.partition AND l.next_offset = f.next_offset)
    ON CONFLICT DO NOTHING;
END
$$;

-- The cuts of a run and of the publication that it was planned on; a null base cut: nothing was published then.
CREATE OR REPLACE FUNCTION serving.cuts(planned_run_id bigint) RETURNS TABLE (
    partition int, next_offset bigint, epoch bigint, base_next_offset bigint, base_epoch bigint, base_received bigint
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.partition, c.next_offset, c.epoch, b.next_offset, b.epoch, b.received
    FROM serving.run AS r
    JOIN serving.run_cut AS c ON c.run_id = r.run_id
    LEFT JOIN serving.publication AS p ON p.generation = r.base_generation
    LEFT JOIN serving.run_cut AS b ON b.run_id = p.run_id AND b.partition = c.partition
    WHERE r.run_id = planned_run_id
    ORDER BY c.partition
$$;

-- Facts for later runs: the events of offsets [first, next) of a partition are on these days and on no others.
CREATE OR REPLACE FUNCTION serving.add_surveyed(facts jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO serving.surveyed SELECT * FROM jsonb_populate_recordset(NULL::serving.surveyed, facts) ON CONFLICT DO NOTHING
$$;

-- Ranges of offsets in which no event is on any of the days; as few as there can be, in order.
CREATE OR REPLACE FUNCTION serving.surveyed_without(sought date[])
RETURNS TABLE (partition int, first_offset bigint, next_offset bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT found.partition, lower(r), upper(r)
    FROM (
        SELECT s.partition, range_agg(int8range(s.first_offset, s.next_offset)) AS whole
        FROM serving.surveyed AS s WHERE NOT s.days && sought GROUP BY s.partition
    ) AS found
    CROSS JOIN LATERAL unnest(found.whole) AS r
    ORDER BY 1, 2
$$;

-- What a task writes is the run's; false if it was written before. Refuses if the run has ended.
CREATE OR REPLACE FUNCTION serving.claim_task(task_run_id bigint, new_task_id text, OUT claimed boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- The lock makes the run's end wait for this transaction.
    PERFORM serving.require_running(run_id, state) FROM serving.run WHERE run_id = task_run_id FOR SHARE;
    IF NOT FOUND THEN
        PERFORM serving.require_running(task_run_id, NULL);
    END IF;
    INSERT INTO serving.run_task VALUES (task_run_id, new_task_id) ON CONFLICT DO NOTHING;
    -- guard: task claim
    claimed := FOUND;
END
$$;

-- Rows and ledger of a task become the run's, which has rows or counts of the days run_days then; false if they did before.
-- Refuses if the run has ended. Tasks share days, so who waits for a table's first chunk must not hold one: of a task's calls
-- in one transaction only the last names days.
CREATE OR REPLACE FUNCTION serving.write_task(
    task_run_id bigint, new_task_id text, new_rows serving.rows, run_days date[],
    days date[], partitions int[], counted bigint[], duplicate bigint[], OUT written boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    written := serving.claim_task(task_run_id, new_task_id);
    IF NOT written THEN
        RETURN;
    END IF;
    UPDATE serving.run_task SET row_count = serving.insert_rows(new_rows, task_run_id)
    WHERE run_id = task_run_id AND task_id = new_task_id;
    INSERT INTO serving.run_day SELECT task_run_id, day FROM unnest(run_days) AS day ORDER BY day ON CONFLICT DO NOTHING;
    INSERT INTO serving.batch_ledger AS l
    SELECT task_run_id, t.day, t.partition, sum(t.counted), sum(t.duplicate)
    FROM unnest(days, partitions, write_task.counted, write_task.duplicate) AS t (day, partition, counted, duplicate)
    GROUP BY t.day, t.partition ORDER BY t.day, t.partition
    ON CONFLICT (run_id, day, partition) DO UPDATE SET
        counted = l.counted + EXCLUDED.counted, duplicate = l.duplicate + EXCLUDED.duplicate;
END
$$;

CREATE OR REPLACE FUNCTION serving.require_running(checked_run_id bigint, run_state text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- guard: an ended run writes nothing
    IF run_state IS DISTINCT FROM 'running' THEN
        RAISE EXCEPTION 'run % is %, not running%', checked_run_id, coalesce(run_state, 'unknown'),
            coalesce((SELECT ' (' || r.error || ')' FROM serving.run AS r WHERE r.run_id = checked_run_id), '')
            USING ERRCODE = 'BR001';
    END IF;
END
$$;

-- How much a run has computed, while what says so is still there.
CREATE OR REPLACE FUNCTION serving.sum_up(ended_run_id bigint) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE serving.run SET
        (day_count, event_count) = (
            SELECT count(DISTINCT day), coalesce(sum(counted), 0) FROM serving.batch_ledger WHERE run_id = ended_run_id),
        row_count = (SELECT coalesce(sum(t.row_count), 0) FROM serving.run_task AS t WHERE t.run_id = ended_run_id)
    WHERE run_id = ended_run_id AND state IN ('published', 'audited')
$$;

-- Of offsets [first_offset, range_next_offset) of a partition the archive has these rejects and no others; that is what it
-- says from now on, and what the speed layer says stays beside it. Returns the offsets of those that add_rejects must bring.
CREATE OR REPLACE FUNCTION serving.judge_rejects(
    of_partition int, first_offset bigint, range_next_offset bigint, offsets bigint[], reasons text[], details text[]
) RETURNS SETOF bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- The planner takes the arrays for short, and would go through them once for each row.
SET enable_nestloop = off
AS $$
BEGIN
    -- guard: a publication judges anew
    UPDATE serving.reject AS r SET judged_by = 'speed'
    WHERE r.judged_by = 'both'
        AND r.partition = of_partition AND r."offset" >= first_offset AND r."offset" < range_next_offset
        AND NOT EXISTS (SELECT FROM unnest(offsets, reasons, details) AS a (at_offset, reason, detail)
            WHERE a.at_offset = r."offset" AND a.reason = r.reason AND a.detail IS NOT DISTINCT FROM r.detail);
    -- Another file may have taken the place of the one that an earlier run read.
    DELETE FROM serving.reject AS r
    WHERE r.judged_by = 'batch'
        AND r.partition = of_partition AND r."offset" >= first_offset AND r."offset" < range_next_offset
        AND NOT EXISTS (SELECT FROM unnest(offsets, reasons, details) AS a (at_offset, reason, detail)
            WHERE a.at_offset = r."offset" AND a.reason = r.reason AND a.detail IS NOT DISTINCT FROM r.detail);
    RETURN QUERY
    SELECT a.at_offset FROM unnest(offsets) AS a (at_offset)
    WHERE NOT EXISTS (SELECT FROM serving.reject AS r WHERE r.judged_by <> 'speed' AND r."offset" = a.at_offset
        AND r.partition = of_partition AND r."offset" >= first_offset AND r."offset" < range_next_offset);
END
$$;

-- The run's rows answer for the given days from now on, and for no others if it was a full run. Refuses if another run was
-- published, or one rolled back, since this one was planned: its rows would miss what that one covers. Of what the run has
-- read so many records are forgotten; so many were received, below the cut.
CREATE OR REPLACE FUNCTION serving.publish(
    published_run_id bigint, days date[], received_partitions int[], received_records bigint[], forgotten_records bigint[],
    OUT generation bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    planned serving.run;
    live serving.publication;
    missing text;
    gap_count bigint;
    has_shown boolean;
    has_forgotten boolean;
BEGIN
    -- One publication at a time; readers are not held up.
    LOCK TABLE serving.publication IN EXCLUSIVE MODE;
    SELECT * INTO planned FROM serving.run WHERE run_id = published_run_id FOR UPDATE;
    PERFORM serving.require_running(published_run_id, planned.state);
    SELECT * INTO live FROM serving.publication ORDER BY generation DESC LIMIT 1;
    -- guard: planned on the live generation
    IF coalesce(live.generation, 0) <> planned.base_generation THEN
        RAISE EXCEPTION 'run % was planned on generation %, but generation % (run %) is live',
            published_run_id, planned.base_generation, live.generation, live.run_id USING ERRCODE = 'BR001';
    END IF;
    UPDATE serving.run_cut AS c SET received = r.records, forgotten = r.forgotten + coalesce((
        SELECT b.forgotten FROM serving.run_cut AS b
        WHERE planned.kind = 'incremental' AND b.run_id = live.run_id AND b.partition = c.partition), 0)
    FROM unnest(received_partitions, received_records, forgotten_records) AS r (partition, records, forgotten)
    WHERE c.run_id = published_run_id AND c.partition = r.partition;
    SELECT string_agg(partition::text, ', ' ORDER BY partition) INTO missing
    FROM serving.run_cut WHERE run_id = published_run_id AND received IS NULL;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'run % does not say how many records it received of partition %', published_run_id, missing
            USING ERRCODE = 'BR001';
    END IF;
    generation := coalesce(live.generation, 0) + 1;
    -- guard: pointer flip in one transaction
    INSERT INTO serving.publication VALUES (publish.generation, published_run_id);
    INSERT INTO serving.publication_day
    SELECT publish.generation, day, published_run_id FROM unnest(days) AS day
    UNION ALL
    SELECT publish.generation, day, run_id FROM serving.publication_day
    WHERE generation = live.generation AND planned.kind = 'incremental' AND day <> ALL (days);
    UPDATE serving.run SET state = 'published', published_at = clock_timestamp() WHERE run_id = published_run_id;
    PERFORM serving.sum_up(published_run_id);
    -- A run that began before a loss was known may have counted it, so the next one takes it over.
    WITH gone AS (
        UPDATE serving.lost_offsets AS l SET run_id = published_run_id FROM serving.run_cut AS c
        WHERE l.run_id IS NULL AND c.run_id = published_run_id AND c.partition = l.partition AND c.next_offset >= l.next_offset
            AND l.last_run_id < published_run_id
        RETURNING l.is_gap
    )
    SELECT count(*) INTO gap_count FROM gone WHERE gone.is_gap;
    UPDATE serving.forgotten AS f SET run_id = published_run_id
    WHERE f.run_id IS NULL AND f.last_run_id < published_run_id;
    has_forgotten := FOUND;
    -- Earlier runs have no rows of views that are shown from now on, or have counted what is lost or forgotten: they cannot
    -- be gone back to.
    has_shown := serving.show_views(published_run_id);
    -- guard: no rollback brings back what is lost
    -- guard: nor what is forgotten
    IF has_shown OR gap_count > 0 OR has_forgotten THEN
        PERFORM serving.prune_publications(0);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION serving.fail_run(failed_run_id bigint, reason text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE serving.run SET state = 'failed', failed_at = clock_timestamp(), error = reason
    WHERE run_id = failed_run_id AND state = 'running'
$$;

-- What the speed layer may do. SECURITY DEFINER: the role itself can touch no table.

-- Partitions 0 to partitions - 1 have a position from now on: the topic has so many.
CREATE OR REPLACE FUNCTION serving.positions(partitions int)
RETURNS TABLE (partition int, next_offset bigint, topic_id text, leader_epoch int, shift bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT serving.add_partitions(ARRAY(SELECT generate_series(0, partitions - 1)));
    SELECT p.partition, p.next_offset, p.topic_id, p.leader_epoch, p.shift FROM serving.speed_progress AS p ORDER BY p.partition;
$$;

-- Two runs may bring the same reject at once. Offsets are never used twice, so what the archive says of a record that the
-- speed layer knows from a topic of another name is of that one.
CREATE OR REPLACE FUNCTION serving.add_rejects(layer text, rejects serving.quarantined[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO serving.reject (topic, partition, "offset", kafka_time, reason, detail, value_bytes, value, judged_by)
    SELECT coalesce((SELECT r.topic FROM serving.reject AS r
               WHERE layer = 'batch' AND r.partition = n.partition AND r."offset" = n."offset" LIMIT 1), n.topic),
           n.partition, n."offset", n.kafka_time, n.reason, n.detail, n.value_bytes, n.value, layer
    -- guard: quarantine once
    FROM unnest(rejects) AS n ON CONFLICT DO NOTHING;
END
$$;

-- Offsets [first_offset, next_offset) of a partition, which hold these rows and rejects, count from now on. position_before
-- says where the partition stood: if that is not first_offset nothing is changed, and neither if the range was held against
-- the day filters of another generation than live_generation (null: against none). Refuses rows of another catalogue, and
-- records of another log than the partition's; topic, leader epoch and shift are those at range_next_offset. Changes nothing
-- either if the records were not held against all that is forgotten, up to statement last_statement (null: against nothing).
CREATE OR REPLACE FUNCTION serving.commit_range(
    code_catalogue text, range_partition int, first_offset bigint, range_next_offset bigint,
    received bigint, counted bigint, duplicate bigint, new_rows serving.rows, rejects serving.quarantined[],
    judged_generation bigint, log_topic_id text, log_leader_epoch int, log_shift bigint,
    forgotten bigint, known_statement bigint,
    OUT position_before bigint, OUT live_generation bigint, OUT last_statement bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    current_epoch bigint;
    known_topic_id text;
    known_shift bigint;
BEGIN
    SELECT p.next_offset, p.epoch, p.topic_id, p.shift INTO position_before, current_epoch, known_topic_id, known_shift
    FROM serving.speed_progress AS p WHERE p.partition = range_partition FOR UPDATE;
    IF NOT FOUND THEN
        -- The topic has got more partitions; a partition's first commit makes its row, and waits for one that does so too.
        PERFORM serving.positions(range_partition + 1);
        SELECT p.next_offset, p.epoch, p.topic_id, p.shift INTO position_before, current_epoch, known_topic_id, known_shift
        FROM serving.speed_progress AS p WHERE p.partition = range_partition FOR UPDATE;
    END IF;
    -- After the lock: a commit that waited for a migration, or for a run's cut, must see what came of it.
    PERFORM serving.require_catalogue(code_catalogue);
    -- guard: progress fence
    IF position_before <> first_offset OR range_next_offset <= first_offset THEN
        RETURN;
    END IF;
    -- guard: commits are of one log
    IF log_topic_id <> known_topic_id OR log_shift <> known_shift THEN
        RAISE EXCEPTION 'offsets [%, %) of partition % were read in the topic with the id % (shift %), but the speed layer has read % (shift %)',
            first_offset, range_next_offset, range_partition, log_topic_id, log_shift, known_topic_id, known_shift
            USING ERRCODE = 'BR004';
    END IF;
    SELECT coalesce(max(p.generation), 0) INTO live_generation FROM serving.publication AS p;
    -- guard: repeats are judged by the live filters
    IF judged_generation <> live_generation THEN
        RETURN;
    END IF;
    SELECT coalesce(max(f.number), 0) INTO last_statement FROM serving.forgotten AS f;
    -- guard: commits know what is forgotten
    IF known_statement <> last_statement THEN
        RETURN;
    END IF;
    PERFORM serving.append_rows(new_rows, range_partition, current_epoch);
    PERFORM serving.add_rejects('both', rejects);
    INSERT INTO serving.speed_ledger AS l (partition, epoch, offsets, received, counted, duplicate, forgotten) VALUES
        (range_partition, current_epoch, range_next_offset - first_offset, received, counted, duplicate, forgotten)
    ON CONFLICT ON CONSTRAINT speed_ledger_pkey DO UPDATE SET
        offsets = l.offsets + EXCLUDED.offsets, received = l.received + EXCLUDED.received,
        counted = l.counted + EXCLUDED.counted, duplicate = l.duplicate + EXCLUDED.duplicate,
        forgotten = l.forgotten + EXCLUDED.forgotten;
    UPDATE serving.speed_progress AS p SET
        next_offset = range_next_offset, topic_id = coalesce(log_topic_id, p.topic_id), leader_epoch = log_leader_epoch
    WHERE p.partition = range_partition;
END
$$;

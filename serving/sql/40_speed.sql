-- What the speed layer may do. SECURITY DEFINER: the role itself can touch no table.

CREATE OR REPLACE FUNCTION serving.positions(partitions int)
RETURNS TABLE (partition int, next_offset bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO serving.speed_progress (partition)
    SELECT generate_series(0, partitions - 1) EXCEPT SELECT p.partition FROM serving.speed_progress AS p
    ON CONFLICT DO NOTHING;
    SELECT p.partition, p.next_offset FROM serving.speed_progress AS p ORDER BY p.partition;
$$;

-- Two layers may bring the same reject.
CREATE OR REPLACE FUNCTION serving.add_rejects(rejects public.quarantine[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- guard: quarantine once
    INSERT INTO public.quarantine SELECT * FROM unnest(rejects) ON CONFLICT DO NOTHING;
END
$$;

-- Offsets [first_offset, next_offset) of a partition, which hold these rows and rejects, count from now on. position_before
-- says where the partition stood: if that is not first_offset nothing is changed, and neither if the range was held against
-- the day filters of another generation than live_generation (null: against none). Refuses rows of another catalogue.
CREATE OR REPLACE FUNCTION serving.commit_range(
    code_catalogue text, range_partition int, first_offset bigint, range_next_offset bigint,
    received bigint, counted bigint, duplicate bigint, new_rows serving.rows, rejects public.quarantine[],
    judged_generation bigint, OUT position_before bigint, OUT live_generation bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    current_epoch bigint;
BEGIN
    SELECT p.next_offset, p.epoch INTO position_before, current_epoch
    FROM serving.speed_progress AS p WHERE p.partition = range_partition FOR UPDATE;
    IF NOT FOUND THEN
        -- The topic has got more partitions; a partition's first commit makes its row, and waits for one that does so too.
        PERFORM serving.positions(range_partition + 1);
        SELECT p.next_offset, p.epoch INTO position_before, current_epoch
        FROM serving.speed_progress AS p WHERE p.partition = range_partition FOR UPDATE;
    END IF;
    -- After the lock: a commit that waited for a migration, or for a run's cut, must see what came of it.
    PERFORM serving.require_catalogue(code_catalogue);
    -- guard: progress fence
    IF position_before <> first_offset OR range_next_offset <= first_offset THEN
        RETURN;
    END IF;
    SELECT coalesce(max(p.generation), 0) INTO live_generation FROM serving.publication AS p;
    -- guard: repeats are judged by the live filters
    IF judged_generation <> live_generation THEN
        RETURN;
    END IF;
    PERFORM serving.append_rows(new_rows, range_partition, current_epoch);
    PERFORM serving.add_rejects(rejects);
    INSERT INTO serving.speed_ledger AS l VALUES
        (range_partition, current_epoch, range_next_offset - first_offset, received, counted, duplicate)
    ON CONFLICT ON CONSTRAINT speed_ledger_pkey DO UPDATE SET
        offsets = l.offsets + EXCLUDED.offsets, received = l.received + EXCLUDED.received,
        counted = l.counted + EXCLUDED.counted, duplicate = l.duplicate + EXCLUDED.duplicate;
    UPDATE serving.speed_progress AS p SET next_offset = range_next_offset WHERE p.partition = range_partition;
END
$$;

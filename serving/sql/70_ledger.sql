-- What readers see beside the merged views.

-- Nothing disappears: received = counted + duplicate + quarantined + forgotten. The sides come from different places: received
-- from reading Kafka and the archive, counted and duplicate from the layers' kernels, quarantined from the table's rows,
-- forgotten from the speed layer's commits and from what the archive's files say of themselves.
-- What Kafka lost before it was archived, and what the archive lost after that, is in none of the three once a run has been
-- published that knows it; `lost` counts those offsets, and lost_offsets names them.
-- in_flight offsets were taken over from a lagging speed layer by a run that is not live (yet).
CREATE OR REPLACE VIEW public.ledger AS
SELECT partition, next_offset, batch_next_offset, in_flight, received, counted, duplicate, quarantined,
       received - counted - duplicate - quarantined - forgotten AS difference,
       (SELECT coalesce(sum(l.next_offset - l.first_offset), 0)::bigint FROM serving.lost_offsets AS l
        WHERE l.partition = sides.partition) AS lost,
       forgotten
FROM (
    SELECT p.partition,
           p.next_offset,
           coalesce(c.next_offset, 0) AS batch_next_offset,
           p.next_offset - coalesce(c.next_offset, 0) - coalesce(s.offsets, 0) AS in_flight,
           coalesce(c.received, 0) + coalesce(s.received, 0) AS received,
           coalesce(b.counted, 0) + coalesce(s.counted, 0) AS counted,
           coalesce(b.duplicate, 0) + coalesce(s.duplicate, 0) AS duplicate,
           coalesce(c.forgotten, 0) + coalesce(s.forgotten, 0) AS forgotten,
           q.quarantined
    FROM serving.speed_progress AS p
    LEFT JOIN serving.live_cut AS c ON c.partition = p.partition
    CROSS JOIN LATERAL (
        SELECT sum(offsets)::bigint AS offsets, sum(received)::bigint AS received,
               sum(counted)::bigint AS counted, sum(duplicate)::bigint AS duplicate, sum(l.forgotten)::bigint AS forgotten
        FROM serving.speed_ledger AS l WHERE l.partition = p.partition AND l.epoch > coalesce(c.epoch, 0)
    ) AS s
    CROSS JOIN LATERAL (
        SELECT sum(counted)::bigint AS counted, sum(duplicate)::bigint AS duplicate
        FROM serving.batch_ledger AS l JOIN serving.live_day AS d USING (run_id, day) WHERE l.partition = p.partition
    ) AS b
    CROSS JOIN LATERAL (
        SELECT count(*) AS quarantined
        FROM public.quarantine AS q
        WHERE q.partition = p.partition AND q."offset" < p.next_offset
    ) AS q
) AS sides;

CREATE OR REPLACE VIEW public.lost_offsets AS
SELECT partition, first_offset, next_offset, reason, recorded_at, run_id FROM serving.lost_offsets;

-- Where the speed layer stands in which log: next_offset is shift more than the log's own offset.
CREATE OR REPLACE VIEW public.log_positions AS
SELECT partition, next_offset, topic_id, leader_epoch, shift FROM serving.speed_progress;

-- `cut` is the next offset by partition; days, rows and events are what the run computed, null unless it ended well. A kept
-- run is one that `make rollback` can make the live one, and that <view>_as_of(run_id) can answer from. How far a run is, its
-- driver says: at which step, how many of the step's tasks have ended, when it last came further, and when it last said so.
CREATE OR REPLACE VIEW public.runs AS
SELECT run_id, kind, state, started_at, published_at, coalesce(published_at, failed_at, audited_at) - started_at AS duration, error,
       (SELECT jsonb_object_agg(c.partition, c.next_offset) FROM serving.run_cut AS c WHERE c.run_id = r.run_id) AS cut,
       day_count AS days, row_count AS rows, event_count AS events,
       EXISTS (SELECT FROM serving.publication AS p WHERE p.run_id = r.run_id) AS is_kept,
       coalesce(run_id = (SELECT p.run_id FROM serving.publication AS p ORDER BY p.generation DESC LIMIT 1), false) AS is_live,
       g.step, g.tasks_done, g.tasks, g.advanced_at, g.seen_at
FROM serving.run AS r LEFT JOIN serving.run_progress AS g USING (run_id);

-- What became of quarantined records that were judged again. Their rows stay in quarantine, for they were received as they were.

-- A record that is an event by now was sent to Kafka once more, and is there as sent_offset; another one still has a reason.
CREATE TABLE IF NOT EXISTS serving.resolution (
    topic          text,
    partition      int,
    "offset"       bigint,
    sent_partition int,
    sent_offset    bigint,
    reason         text,
    detail         text,
    judged_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, partition, "offset"),
    CHECK ((sent_partition IS NULL) = (sent_offset IS NULL) AND (sent_offset IS NULL) <> (reason IS NULL))
);

-- Records of quarantine, with their present reason. open: no event, as far as is known. sent: on its way to be counted.
-- resolved: the speed layer has passed the record's new place and did not reject it, so its event is counted, or was before.
CREATE OR REPLACE VIEW public.quarantine_state AS
SELECT q.topic, q.partition, q."offset", q.kafka_time, q.value_bytes,
       q.reason AS first_reason,
       coalesce(again.reason, r.reason, q.reason) AS reason,
       CASE WHEN again.reason IS NOT NULL THEN again.detail WHEN r.reason IS NOT NULL THEN r.detail ELSE q.detail END AS detail,
       CASE WHEN r.sent_offset IS NULL OR again.reason IS NOT NULL THEN 'open'
            WHEN r.sent_offset >= coalesce(p.next_offset, 0) OR EXISTS (
                SELECT FROM serving.run_cut AS c LEFT JOIN serving.live_cut AS l USING (partition)
                WHERE c.partition = r.sent_partition AND c.next_offset > coalesce(l.next_offset, 0)
                    AND r.sent_offset >= c.speed_offset AND r.sent_offset < c.next_offset) THEN 'sent'
            ELSE 'resolved' END AS state,
       r.sent_partition, r.sent_offset, r.judged_at
FROM public.quarantine AS q
LEFT JOIN serving.resolution AS r USING (topic, partition, "offset")
LEFT JOIN public.quarantine AS again
    ON again.topic = q.topic AND again.partition = r.sent_partition AND again."offset" = r.sent_offset
LEFT JOIN serving.speed_progress AS p ON p.partition = r.sent_partition;

-- Records that were judged again; what is no record of quarantine is left out. Of two judgements the later one stays, but a
-- record that was sent stays so.
CREATE OR REPLACE FUNCTION serving.resolve(facts jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    recorded bigint;
BEGIN
    INSERT INTO serving.resolution AS old
    SELECT f.topic, f.partition, f."offset", f.sent_partition, f.sent_offset, f.reason, f.detail, clock_timestamp()
    FROM jsonb_populate_recordset(NULL::serving.resolution, facts) AS f
    JOIN public.quarantine AS q ON q.topic = f.topic AND q.partition = f.partition AND q."offset" = f."offset"
    ORDER BY f.topic, f.partition, f."offset"
    ON CONFLICT (topic, partition, "offset") DO UPDATE SET
        sent_partition = EXCLUDED.sent_partition, sent_offset = EXCLUDED.sent_offset,
        reason = EXCLUDED.reason, detail = EXCLUDED.detail, judged_at = EXCLUDED.judged_at
    -- guard: a sent record stays sent
    WHERE old.sent_offset IS NULL OR EXCLUDED.sent_offset IS NOT NULL;
    GET DIAGNOSTICS recorded = ROW_COUNT;
    RETURN recorded;
END
$$;

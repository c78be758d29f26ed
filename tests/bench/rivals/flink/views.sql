-- R3: both views by Flink SQL, from Kafka by upserts into PostgreSQL. flink_sql.py fills in what has a dollar sign.
SET 'table.local-time-zone' = 'UTC';
SET 'table.dml-sync' = 'true';
SET 'parallelism.default' = '2';
SET 'pipeline.object-reuse' = 'true';
SET 'execution.checkpointing.interval' = '1 s';
SET 'execution.checkpointing.mode' = 'EXACTLY_ONCE';
SET 'execution.checkpointing.dir' = '$checkpoints';
SET 'state.backend.type' = 'hashmap';
-- Without it the ids that the removal of repeats knows would grow for ever. The aggregates have none (STATE_TTL below): with
-- it each access to a group's values would look through all of them for old ones.
SET 'table.exec.state.ttl' = '4 d';
SET 'table.exec.mini-batch.enabled' = 'true';
SET 'table.exec.mini-batch.allow-latency' = '1 s';
SET 'table.exec.mini-batch.size' = '100000';
SET 'table.optimizer.agg-phase-strategy' = 'TWO_PHASE';
-- Both views read the same events: decoded once, repeats removed once.
SET 'table.optimizer.reuse-optimize-block-with-digest-enabled' = 'true';

CREATE TABLE records (
    event_id STRING, event_time TIMESTAMP_LTZ(3), site STRING, page STRING, visitor_id STRING,
    status INT, bytes_sent BIGINT, duration_ms DOUBLE,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    arrived AS PROCTIME()
) WITH (
    'connector' = 'kafka', 'topic' = '$topic', 'properties.bootstrap.servers' = '$kafka_bootstrap',
    'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset',
    'format' = 'json', 'json.ignore-parse-errors' = 'true', 'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE site_traffic (
    bucket TIMESTAMP(3), site STRING, `views` BIGINT, errors BIGINT, bytes_sent BIGINT, visitors BIGINT,
    p50 DOUBLE, p95 DOUBLE, p99 DOUBLE, PRIMARY KEY (bucket, site) NOT ENFORCED
) WITH (
    'connector' = 'jdbc', 'url' = '$database_url', 'table-name' = 'flink_site_traffic',
    'sink.buffer-flush.max-rows' = '5000', 'sink.buffer-flush.interval' = '1 s'
);

CREATE TABLE page_traffic (
    bucket TIMESTAMP(3), site STRING, page STRING, `views` BIGINT, errors BIGINT, bytes_sent BIGINT, visitors BIGINT,
    p50 DOUBLE, p95 DOUBLE, p99 DOUBLE, PRIMARY KEY (bucket, site, page) NOT ENFORCED
) WITH (
    'connector' = 'jdbc', 'url' = '$database_url', 'table-name' = 'flink_page_traffic',
    'sink.buffer-flush.max-rows' = '5000', 'sink.buffer-flush.interval' = '1 s'
);

-- PERCENTILE keeps every different value and sorts them at each answer. So that these are some hundred and not as many as
-- events, each is rounded by at most 1.1 %, which is what Braid's histograms are allowed too.
CREATE TEMPORARY VIEW events AS
SELECT event_id, event_time, site, page, visitor_id, status, bytes_sent, arrived,
    CASE WHEN duration_ms > 0 THEN EXP(ROUND(LN(duration_ms) * 45) / 45) ELSE duration_ms END AS duration_ms
FROM records
WHERE event_id <> '' AND visitor_id <> '' AND site <> '' AND page <> '' AND CHAR_LENGTH(page) <= 2048
    AND POSITION(U&'\0000' IN page) = 0 AND status BETWEEN 100 AND 599 AND bytes_sent >= 0
    AND event_time <= kafka_time + INTERVAL '1' DAY;

CREATE TEMPORARY VIEW unique_events AS
SELECT event_time, site, page, visitor_id, status, bytes_sent, duration_ms
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY CAST(event_time AS DATE), event_id ORDER BY arrived) AS nth FROM events)
WHERE nth = 1;

-- The client tries it after each semicolon; that it has no end yet is no error, though the log says so.
EXECUTE STATEMENT SET BEGIN
INSERT INTO site_traffic
SELECT bucket, site, `views`, errors, bytes_sent, visitors, latency[1], latency[2], latency[3]
FROM (
    SELECT /*+ STATE_TTL('unique_events' = '0s') */ CAST(FLOOR(event_time TO MINUTE) AS TIMESTAMP(3)) AS bucket, site,
        COUNT(*) AS `views`, COUNT(*) FILTER (WHERE status >= 500) AS errors, SUM(bytes_sent) AS bytes_sent,
        COUNT(DISTINCT visitor_id) AS visitors, PERCENTILE(duration_ms, ARRAY[0.5, 0.95, 0.99]) AS latency
    FROM unique_events
    GROUP BY CAST(FLOOR(event_time TO MINUTE) AS TIMESTAMP(3)), site
);
INSERT INTO page_traffic
SELECT bucket, site, page, `views`, errors, bytes_sent, visitors, latency[1], latency[2], latency[3]
FROM (
    SELECT /*+ STATE_TTL('unique_events' = '0s') */ CAST(FLOOR(event_time TO HOUR) AS TIMESTAMP(3)) AS bucket, site, page,
        COUNT(*) AS `views`, COUNT(*) FILTER (WHERE status >= 500) AS errors, SUM(bytes_sent) AS bytes_sent,
        COUNT(DISTINCT visitor_id) AS visitors, PERCENTILE(duration_ms, ARRAY[0.5, 0.95, 0.99]) AS latency
    FROM unique_events
    GROUP BY CAST(FLOOR(event_time TO HOUR) AS TIMESTAMP(3)), site, page
);
END;

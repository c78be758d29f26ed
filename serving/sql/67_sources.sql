-- What was counted of which files. The register on HDFS has it, and ingest tells it: here it can be asked in SQL.
CREATE TABLE IF NOT EXISTS serving.source (
    source           text PRIMARY KEY,
    site             text NOT NULL,
    names            text[] NOT NULL,
    bytes            bigint NOT NULL,
    lines            bigint NOT NULL,
    counted          bigint NOT NULL,
    repeats          bigint NOT NULL,
    empty            bigint NOT NULL,
    quarantined      jsonb NOT NULL,
    first_counted_at timestamptz NOT NULL,
    counted_at       timestamptz NOT NULL
);
ALTER TABLE serving.source ADD COLUMN IF NOT EXISTS is_forgotten boolean NOT NULL DEFAULT false;

-- Sources as they stand; what comes late is not newer. is_all: there are no others.
CREATE OR REPLACE FUNCTION serving.record_sources(facts jsonb, is_all boolean) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM serving.source
    WHERE is_all AND source NOT IN (SELECT f.source FROM jsonb_populate_recordset(NULL::serving.source, facts) AS f);
    INSERT INTO serving.source AS old
    SELECT f.* FROM jsonb_populate_recordset(NULL::serving.source, facts) AS f ORDER BY f.source
    ON CONFLICT (source) DO UPDATE SET
        site = EXCLUDED.site, names = EXCLUDED.names, bytes = EXCLUDED.bytes, lines = EXCLUDED.lines,
        counted = EXCLUDED.counted, repeats = EXCLUDED.repeats, empty = EXCLUDED.empty, quarantined = EXCLUDED.quarantined,
        first_counted_at = EXCLUDED.first_counted_at, counted_at = EXCLUDED.counted_at,
        is_forgotten = EXCLUDED.is_forgotten
    WHERE is_all OR EXCLUDED.counted_at >= old.counted_at;
$$;

-- `name` is the last one that the file had. Of its lines so many are events, repeats of an earlier line's id, in quarantine, or
-- empty; together they are all lines. What is_forgotten was taken back: see the view forgotten.
CREATE OR REPLACE VIEW public.sources AS
SELECT source, site, names[cardinality(names)] AS name, names, bytes, lines, counted, repeats,
       (SELECT coalesce(sum(q.value::bigint), 0)::bigint FROM jsonb_each_text(quarantined) AS q) AS quarantined,
       empty, quarantined AS quarantined_by_reason, first_counted_at, counted_at, is_forgotten
FROM serving.source;

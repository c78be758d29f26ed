-- The state of the hand-off. Only functions of this schema change it. Offsets are half-open: next_offset is not included.
SET LOCAL ROLE braid_owner;

-- Where the speed layer stands: all of the partition below next_offset is counted; commits go to `epoch`.
CREATE TABLE IF NOT EXISTS serving.speed_progress (
    partition   int PRIMARY KEY CHECK (partition >= 0),
    next_offset bigint NOT NULL DEFAULT 0,
    epoch       bigint NOT NULL DEFAULT 1
);

-- Which log that offset is of (contract.log_position): null until a commit has said so, as in rows of an older schema.
ALTER TABLE serving.speed_progress
    ADD COLUMN IF NOT EXISTS topic_id text,
    ADD COLUMN IF NOT EXISTS leader_epoch int,
    ADD COLUMN IF NOT EXISTS shift bigint NOT NULL DEFAULT 0;

-- What speed commits took in, by epoch; received counts records, and offsets also the gaps that transactions leave.
CREATE TABLE IF NOT EXISTS serving.speed_ledger (
    partition int,
    epoch     bigint,
    offsets   bigint NOT NULL,
    received  bigint NOT NULL,
    counted   bigint NOT NULL,
    duplicate bigint NOT NULL,
    PRIMARY KEY (partition, epoch)
);

ALTER TABLE serving.speed_ledger ADD COLUMN IF NOT EXISTS forgotten bigint NOT NULL DEFAULT 0;

-- A run was planned on the generation that was live when it began: 0 if there was none.
CREATE TABLE IF NOT EXISTS serving.run (
    run_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind            text NOT NULL,
    state           text NOT NULL DEFAULT 'running',
    base_generation bigint NOT NULL,
    started_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at    timestamptz,
    failed_at       timestamptz,
    error           text
);
-- A run of kind audit is compared and never published. Apart from the table, so that an older one gets them too.
ALTER TABLE serving.run ADD COLUMN IF NOT EXISTS audited_at timestamptz;
ALTER TABLE serving.run
    DROP CONSTRAINT IF EXISTS run_kind_check,
    ADD CONSTRAINT run_kind_check CHECK (kind IN ('full', 'incremental', 'audit')),
    DROP CONSTRAINT IF EXISTS run_state_check,
    ADD CONSTRAINT run_state_check CHECK (state IN ('running', 'published', 'failed', 'audited'));
-- What it computed, known when it has ended well: its days and rows are deleted one day, and these numbers stay.
ALTER TABLE serving.run
    ADD COLUMN IF NOT EXISTS day_count int,
    ADD COLUMN IF NOT EXISTS row_count bigint,
    ADD COLUMN IF NOT EXISTS event_count bigint;

-- What a run covers: offsets below next_offset, speed rows of epochs up to `epoch`. Offsets from speed_offset on were
-- taken over from a speed layer that lagged. `received` is known when the run is published.
CREATE TABLE IF NOT EXISTS serving.run_cut (
    run_id       bigint REFERENCES serving.run,
    partition    int,
    next_offset  bigint NOT NULL,
    epoch        bigint NOT NULL,
    speed_offset bigint NOT NULL,
    received     bigint,
    PRIMARY KEY (run_id, partition)
);
ALTER TABLE serving.run_cut
    ADD COLUMN IF NOT EXISTS topic_id text,
    ADD COLUMN IF NOT EXISTS leader_epoch int,
    ADD COLUMN IF NOT EXISTS shift bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS forgotten bigint NOT NULL DEFAULT 0;

-- What was said to be forgotten, as contract/forgotten.py has it: only the speed layer hears the digests. Runs up to
-- last_run_id had begun before; run_id is the run whose publication has taken it out of all views, null before that.
CREATE TABLE IF NOT EXISTS serving.forgotten (
    number      bigint PRIMARY KEY,
    statement   jsonb NOT NULL,
    last_run_id bigint NOT NULL,
    run_id      bigint
);

-- Offsets whose records nobody has any more. The run that has taken them out of the views is run_id: null before its
-- publication. Ranges of a partition do not overlap.
CREATE TABLE IF NOT EXISTS serving.lost_offsets (
    partition    int,
    first_offset bigint NOT NULL,
    next_offset  bigint,
    reason       text NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_id       bigint,
    PRIMARY KEY (partition, next_offset)
);

-- is_gap: a file of the archive may have had them, and runs may have counted them; else only the speed layer had. Runs up to
-- last_run_id had begun before this was known.
ALTER TABLE serving.lost_offsets
    ADD COLUMN IF NOT EXISTS is_gap boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS last_run_id bigint NOT NULL DEFAULT 0;

-- Tasks whose rows are written, so that a task that is tried again writes nothing.
CREATE TABLE IF NOT EXISTS serving.run_task (
    run_id  bigint REFERENCES serving.run,
    task_id text,
    PRIMARY KEY (run_id, task_id)
);
ALTER TABLE serving.run_task ADD COLUMN IF NOT EXISTS row_count bigint NOT NULL DEFAULT 0;

-- How far a run is, as its driver says every few seconds. Apart from the run's own row, which every task that writes locks.
CREATE TABLE IF NOT EXISTS serving.run_progress (
    run_id      bigint PRIMARY KEY REFERENCES serving.run,
    step        text NOT NULL,
    tasks_done  int NOT NULL,
    tasks       int NOT NULL,
    advanced_at timestamptz NOT NULL,
    seen_at     timestamptz NOT NULL
);

-- The days that have rows of a run, for garbage collection.
CREATE TABLE IF NOT EXISTS serving.run_day (
    run_id bigint REFERENCES serving.run,
    day    date,
    PRIMARY KEY (run_id, day)
);

-- On which days the events of archived offsets are, as runs have found: a fact for good, whatever became of the run.
CREATE TABLE IF NOT EXISTS serving.surveyed (
    partition    int,
    first_offset bigint,
    next_offset  bigint,
    days         date[] NOT NULL,
    PRIMARY KEY (partition, first_offset, next_offset)
);

CREATE TABLE IF NOT EXISTS serving.batch_ledger (
    run_id    bigint REFERENCES serving.run,
    day       date,
    partition int,
    counted   bigint NOT NULL,
    duplicate bigint NOT NULL,
    PRIMARY KEY (run_id, day, partition)
);

-- Every publication, a rollback too, is a new generation; the highest is live. Older ones stay for rollback, whole.
CREATE TABLE IF NOT EXISTS serving.publication (
    generation   bigint PRIMARY KEY,
    run_id       bigint NOT NULL REFERENCES serving.run,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE IF NOT EXISTS serving.publication_day (
    generation bigint REFERENCES serving.publication ON DELETE CASCADE,
    day        date,
    run_id     bigint NOT NULL REFERENCES serving.run,
    PRIMARY KEY (generation, day)
);

-- How a run's rows compare with what readers had of the same offsets: of a whole view, for good.
CREATE TABLE IF NOT EXISTS serving.drift_view (
    run_id              bigint REFERENCES serving.run,
    view_name           text,
    row_count           bigint NOT NULL,
    rows_differ         bigint NOT NULL,
    unexplained         bigint NOT NULL,
    dropped             bigint NOT NULL,
    repeated            bigint NOT NULL,
    ledger_difference   bigint NOT NULL,
    speed_counted       bigint NOT NULL,
    false_positive_rate double precision NOT NULL,
    PRIMARY KEY (run_id, view_name)
);

-- Of each bucket in which rows were absorbed or differ, and of rows that differ; as long as the run's rows are kept.
CREATE TABLE IF NOT EXISTS serving.drift_bucket (
    run_id       bigint REFERENCES serving.run,
    view_name    text,
    bucket       timestamptz,
    row_count    bigint NOT NULL,
    measures     text[] NOT NULL,
    rows_differ  bigint[] NOT NULL,
    speed_values bigint[] NOT NULL,
    batch_values bigint[] NOT NULL,
    PRIMARY KEY (run_id, view_name, bucket)
);

CREATE TABLE IF NOT EXISTS serving.drift_row (
    run_id      bigint REFERENCES serving.run,
    view_name   text,
    bucket      timestamptz,
    keys        jsonb,
    measure     text,
    speed_value bigint,
    batch_value bigint,
    cause       text NOT NULL
);
CREATE INDEX IF NOT EXISTS drift_row_run ON serving.drift_row (run_id);

-- The catalogue that all layers must have, in one row.
CREATE TABLE IF NOT EXISTS serving.catalogue (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    digest   text NOT NULL
);

-- Versions of views, each with tables of its own. `building` has rows since the catalogue has it and no history, so readers do
-- not see it; `live` they see; `leaving` they still see, as it was when the catalogue changed, until the next publication;
-- `retired` nobody sees; `dropped` has no tables any more. run_id is the run that brought the history, null if there was none.
CREATE TABLE IF NOT EXISTS serving.view_version (
    view_name text,
    version   int,
    digest    text NOT NULL,
    state     text NOT NULL CHECK (state IN ('building', 'live', 'leaving', 'retired', 'dropped')),
    shown_sql text NOT NULL,
    made_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_id    bigint,
    PRIMARY KEY (view_name, version)
);

CREATE OR REPLACE VIEW serving.live_day AS
SELECT day, run_id FROM serving.publication_day WHERE generation = (SELECT max(generation) FROM serving.publication);

CREATE OR REPLACE VIEW serving.live_cut AS
SELECT partition, next_offset, epoch, received, topic_id, leader_epoch, shift, forgotten
FROM serving.run_cut
WHERE run_id = (SELECT run_id FROM serving.publication ORDER BY generation DESC LIMIT 1);

-- Speed rows of epochs up to this one count for no partition: a bound that the planner can estimate, and an index can use, while
-- live_cut says it exactly. STABLE, so that it is of the same snapshot. The planner must know what it costs, for where it is no
-- bound of an index it is asked once a row.
CREATE OR REPLACE FUNCTION serving.read_absorbed_floor() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE COST 1000 SET search_path = pg_catalog, pg_temp
AS $$
    -- A partition that the live run did not know has rows from its first commit's epoch on.
    -- guard: absorbed rows are those of every partition
    SELECT coalesce(min(coalesce(c.epoch, (SELECT min(l.epoch) - 1 FROM serving.speed_ledger AS l WHERE l.partition = p.partition))), 0)
    FROM serving.speed_progress AS p LEFT JOIN serving.live_cut AS c ON c.partition = p.partition
$$;

-- What views call: the planner puts the other one in its place. The module's form (25_native.sql) asks once a statement.
CREATE OR REPLACE FUNCTION serving.absorbed_floor() RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT serving.read_absorbed_floor()
$$;

-- A partition that is new to the speed layer begins in the epoch of the others.
CREATE OR REPLACE FUNCTION serving.add_partitions(new_partitions int[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    -- guard: a new partition is in the epoch of the others
    INSERT INTO serving.speed_progress (partition, epoch)
    SELECT n.partition, (SELECT coalesce(max(p.epoch), 1) FROM serving.speed_progress AS p)
    FROM unnest(new_partitions) AS n (partition)
    WHERE n.partition NOT IN (SELECT p.partition FROM serving.speed_progress AS p)
    ON CONFLICT DO NOTHING
$$;

-- Of each kept run its latest publication, and which run answers for a day where that one is live.
CREATE OR REPLACE VIEW serving.kept_publication AS
SELECT run_id AS kept_run_id, max(generation) AS generation FROM serving.publication GROUP BY run_id;

CREATE OR REPLACE VIEW serving.kept_day AS
SELECT k.kept_run_id, d.day, d.run_id
FROM serving.kept_publication AS k JOIN serving.publication_day AS d USING (generation);

-- An older schema had the rejects in the table that is a view now.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('public.quarantine') AND relkind = 'r') THEN
        ALTER TABLE public.quarantine SET SCHEMA serving;
        ALTER TABLE serving.quarantine RENAME TO reject;
        ALTER TABLE serving.reject DROP CONSTRAINT quarantine_pkey, ADD COLUMN judged_by text NOT NULL DEFAULT 'both',
            ADD CONSTRAINT reject_judged_by_check CHECK (judged_by IN ('both', 'speed', 'batch')),
            ADD CONSTRAINT reject_pkey PRIMARY KEY (partition, "offset", topic, judged_by);
        REVOKE ALL ON serving.reject FROM reader;
    END IF;
END
$$;

-- Records that are no events. What the speed layer has rejected is judged by both until a publication says that the archive
-- has it as an event, or for another reason: then it is judged by speed alone, and what the archive says by batch alone.
CREATE TABLE IF NOT EXISTS serving.reject (
    topic       text,
    partition   int,
    "offset"    bigint,
    kafka_time  timestamptz,
    reason      text NOT NULL,
    detail      text,
    value_bytes bigint,
    value       bytea,
    judged_by   text NOT NULL DEFAULT 'both',
    CONSTRAINT reject_judged_by_check CHECK (judged_by IN ('both', 'speed', 'batch')),
    CONSTRAINT reject_pkey PRIMARY KEY (partition, "offset", topic, judged_by)
);
CREATE INDEX IF NOT EXISTS reject_of_speed ON serving.reject (partition, "offset") WHERE judged_by = 'speed';

-- An older schema showed readers a view with a column that they were not let read, so `select *` was refused.
DO $$
BEGIN
    IF to_regclass('public.quarantine') IS NOT NULL AND to_regclass('serving.quarantined') IS NULL THEN
        ALTER VIEW public.quarantine RENAME TO quarantined;
        ALTER VIEW public.quarantined SET SCHEMA serving;
        REVOKE ALL (topic, partition, "offset", kafka_time, reason, detail, value_bytes) ON serving.quarantined FROM reader;
    END IF;
END
$$;

-- As merged views have batch rows below the live cut and speed rows above it, so has this, whichever run is live.
CREATE OR REPLACE VIEW serving.quarantined AS
SELECT r.topic, r.partition, r."offset", r.kafka_time, r.reason, r.detail, r.value_bytes, r.value
FROM serving.reject AS r
-- guard: below the cut the archive judges
WHERE r.judged_by = 'both' OR r.judged_by = CASE
    WHEN r."offset" < coalesce((SELECT c.next_offset FROM serving.live_cut AS c WHERE c.partition = r.partition), 0)
    THEN 'batch' ELSE 'speed' END;
COMMENT ON COLUMN serving.quarantined.value IS 'the first 4,096 bytes of the record';

-- What readers see of it: all but the value, which may be anything that somebody has sent.
CREATE OR REPLACE VIEW public.quarantine AS
SELECT topic, partition, "offset", kafka_time, reason, detail, value_bytes FROM serving.quarantined;

-- What an older schema had and nothing calls any more.
DROP FUNCTION IF EXISTS serving.open_staging(), serving.append_staged(int, bigint, bigint), serving.insert_staged(bigint),
    serving.insert_staged_quarantine(), serving.commit_range(int, bigint, bigint, bigint, bigint, bigint),
    serving.write_task(bigint, text), serving.begin_run(text, int[], bigint[]),
    serving.compare_views(bigint, bigint, bigint, double precision), serving.begin_run(text, text, int[], bigint[]),
    serving.commit_range(text, int, bigint, bigint, bigint, bigint, bigint, serving.rows, serving.reject[], bigint),
    serving.commit_range(text, int, bigint, bigint, bigint, bigint, bigint, serving.rows, serving.reject[], bigint, text, int,
        bigint),
    serving.add_rejects(serving.reject[]), serving.positions(int), serving.record_lost(jsonb), serving.merge_appended(int, int),
    serving.publish(bigint, date[], int[], bigint[]),
    serving.begin_run(text, text, int[], bigint[], int[], text[], int[], bigint[]),
    serving.day_filter(bigint, date), serving.collect_run_day(), serving.delete_run_day(bigint, date);

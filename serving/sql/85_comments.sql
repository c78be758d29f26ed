-- What clients and psql show beside each view, column and function. Those of the catalogue's views are generated (72).

COMMENT ON AGGREGATE public.total(bigint) IS 'the sum as bigint, which every client reads; sum(bigint) is numeric';
COMMENT ON AGGREGATE public.merged_count(public.hll) IS 'how many different values several sketches have together, ± 2.3 %';
COMMENT ON AGGREGATE public.merged_percentile(double precision, bigint[]) IS
    'merged_percentile(0.95, latency): the value below which 95 % of several histograms'' values are, within 1.1 %';
COMMENT ON AGGREGATE public.sketch_merge(public.hll) IS 'several sketches as one: of different values';
COMMENT ON AGGREGATE public.sketch_merge(bigint[]) IS 'several sketches as one: histograms';
COMMENT ON AGGREGATE public.sketch_merge(bytea) IS 'several sketches as one: Bloom filters';
COMMENT ON AGGREGATE public.rollup(public.hll) IS 'another name of sketch_merge; a keyword to some tools';
COMMENT ON AGGREGATE public.rollup(bigint[]) IS 'another name of sketch_merge; a keyword to some tools';
COMMENT ON AGGREGATE public.rollup(bytea) IS 'another name of sketch_merge; a keyword to some tools';
COMMENT ON AGGREGATE public.hll_merge(public.hll) IS 'sketch_merge as merged views use it, for groups of few rows';
COMMENT ON FUNCTION public.distinct_count(public.hll) IS 'how many different values one sketch has, ± 2.3 %';
COMMENT ON FUNCTION public.approx_percentile(double precision, bigint[]) IS
    'approx_percentile(0.95, latency): the value below which 95 % of one histogram''s values are, within 1.1 %';
COMMENT ON FUNCTION public.approx_average(bigint[]) IS 'the mean of one histogram''s values, within 1.1 %';
COMMENT ON FUNCTION public.histogram_bins(bigint[]) IS 'the bins of a histogram as a table: count values in (lower, upper]';
COMMENT ON FUNCTION public.histogram_add(bigint[], bigint[]) IS 'two histograms as one';
COMMENT ON FUNCTION public.seen(text, bytea) IS
    'whether the value may be in the Bloom filter: never false of one that is, seldom true of one that is not';
COMMENT ON FUNCTION public.numbers_add(bigint[], bigint[]) IS 'as many numbers of each, added up place by place';
COMMENT ON AGGREGATE public.sum_each(bigint[]) IS 'numbers added up place by place: means, and histograms with bounds of their own';
COMMENT ON FUNCTION public.seen_add(bytea, bytea) IS 'two Bloom filters as one';
COMMENT ON FUNCTION public.seen_count(bytea) IS 'about how many values are in the Bloom filter';

COMMENT ON VIEW public.quarantine IS 'records that are no events, each with the reason; docs/operations.md explains them';
COMMENT ON VIEW public.quarantine_state IS 'quarantine, and what became of the records that were judged again';
COMMENT ON VIEW public.ledger IS
    'per partition: received = counted + duplicate + quarantined + forgotten, so difference is 0';
COMMENT ON VIEW public.runs IS 'batch runs, also ones that go on or have failed; those that is_kept can be gone back to';
COMMENT ON VIEW public.lost_offsets IS 'offsets whose records nobody has any more, each range with the reason';
COMMENT ON VIEW public.log_positions IS 'where the speed layer stands in which log of Kafka';
COMMENT ON VIEW public.replay_cover IS 'days on which repeats are recognised however late they come, and by which run';
COMMENT ON VIEW public.sources IS 'log files that were counted: which, when, and what became of their lines';
COMMENT ON VIEW public.forgotten IS 'what was said to be forgotten, without whom or what it names';
COMMENT ON VIEW public.catalogue IS 'the views that readers see, and those that are on their way';
COMMENT ON VIEW public.drift IS 'how a run''s rows compare with what readers had: sums by view, bucket and measure';
COMMENT ON VIEW public.drift_rows IS 'the rows in which they differ, at most 1,000 of a run and view';
COMMENT ON VIEW public.drift_summary IS 'by run and view, whether they are equal, explained by the speed layer''s filter, or wrong';

-- A column means the same in each of these views that has it, unless its own entry, with the view's name, says otherwise.
DO $block$
DECLARE
    meanings jsonb := $json$ {
        "topic": "of Kafka", "partition": "of Kafka's topic", "offset": "of Kafka, as Braid counts on through logs",
        "kafka_time": "when Kafka received it", "reason": "why it is no event", "lost_offsets.reason": "why they are lost",
        "detail": "the reason in words", "value_bytes": "how long it is",
        "first_reason": "why it was no event when it came", "state": "how far it is",
        "quarantine_state.state": "open: no event yet; sent: on its way; resolved: counted, or was before",
        "runs.state": "running, published, failed or audited",
        "catalogue.state": "live: shown; building: on its way; leaving: shown until the next run; retired: gone soon",
        "sent_partition": "where it was sent again, NULL if it was not", "sent_offset": "and at which offset",
        "judged_at": "when it was judged again", "next_offset": "the first offset that is not part of it",
        "ledger.next_offset": "where the speed layer stands", "log_positions.next_offset": "where the speed layer stands",
        "batch_next_offset": "where the live run ends", "in_flight": "offsets that a run has taken over and not yet published",
        "received": "records", "counted": "events that count", "duplicate": "events that came before",
        "quarantined": "records that are no events", "difference": "what nobody can explain; 0",
        "drift.difference": "speed less batch", "drift_rows.difference": "speed less batch",
        "lost": "offsets that nobody has any more", "forgotten": "records that were taken back",
        "run_id": "the run", "kind": "which kind it is", "runs.kind": "full, incremental or audit",
        "started_at": "when it began", "published_at": "when readers got it", "duration": "how long it took",
        "error": "why it failed", "cut": "the first offset that it does not cover, by partition", "days": "that it computed",
        "rows": "that it computed", "events": "that it counted", "is_kept": "whether it can be gone back to",
        "is_live": "whether the views answer from it", "step": "what it is doing", "tasks_done": "of the step's tasks",
        "tasks": "of the step", "advanced_at": "when it last came further", "seen_at": "when it last said so",
        "first_offset": "the first offset of it", "recorded_at": "when that became known", "topic_id": "of the log",
        "leader_epoch": "of the log", "shift": "how much Braid's offsets are above the log's own", "day": "in UTC",
        "bytes": "in all", "source": "its name for ever", "site": "under which it was counted", "name": "the last one it had",
        "names": "all that it had", "lines": "in all", "repeats": "lines that came before", "empty": "lines without text",
        "quarantined_by_reason": "how many lines are no events, and why", "first_counted_at": "when it was first counted",
        "counted_at": "when it was last counted", "is_forgotten": "whether it was taken back", "number": "of the statement",
        "said_at": "when it was said", "until": "events up to here are forgotten", "rejects": "records of quarantine",
        "lifted_by": "the statement that takes it back", "view_name": "the view", "version": "of the view's tables",
        "made_at": "when that began", "bucket": "when the row's time begins", "measure": "the column that is compared",
        "row_count": "rows that were compared", "rows_differ": "rows that are not equal",
        "speed_value": "what readers had, as a number", "batch_value": "what the run computed, as a number",
        "keys": "the row's", "cause": "dropped, repeated or unexplained", "compared_at": "when", "unexplained": "rows",
        "dropped": "events that the speed layer took for repeats", "repeated": "repeats that the speed layer counted",
        "ledger_difference": "of the events counted", "speed_counted": "events that the speed layer counted",
        "expected_drops": "by the filter's rate", "allowed_drops": "more than that is wrong",
        "verdict": "equal, explained or wrong"
    } $json$;
    shown record;
BEGIN
    FOR shown IN
        SELECT c.relname, a.attname, coalesce(meanings ->> format('%s.%s', c.relname, a.attname), meanings ->> a.attname) AS meaning
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v' AND c.relname IN (
            'quarantine', 'quarantine_state', 'ledger', 'runs', 'lost_offsets', 'log_positions', 'replay_cover', 'sources',
            'forgotten', 'catalogue', 'drift', 'drift_rows', 'drift_summary')
    LOOP
        EXECUTE format('COMMENT ON COLUMN public.%I.%I IS %L', shown.relname, shown.attname, shown.meaning);
    END LOOP;
END
$block$;

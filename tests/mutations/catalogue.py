"""Every guard of the promises, and how to remove it. In the code a comment `guard: name` stands where the guard is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SIMULATION = ("-m", "tests.simulate", "--seeds", "150", "--jobs", "1", "--stop", "--json")
"""The proof of most guards: a history in which the promise breaks without it."""


@dataclass(frozen=True)
class Mutation:
    """A guard, the text that removes it, and the arguments of Python that must then fail."""

    guard: str
    file: str
    old: str
    new: str
    proof: tuple[str, ...] = SIMULATION
    more: tuple[tuple[str, str, str], ...] = ()
    """Further (file, old, new) that the removal needs."""

    def apply(self, root: Path) -> None:
        """Remove the guard from the code below `root`; each text must be there exactly once."""
        for file, old, new in ((self.file, self.old, self.new), *self.more):
            path = root / file
            text = path.read_text(encoding="utf-8")
            assert text.count(old) == 1, f"{self.guard}: {file} has {text.count(old)} times {old!r}"
            path.write_text(text.replace(old, new), encoding="utf-8")


def _test(node: str) -> tuple[str, ...]:
    return ("-m", "pytest", f"tests/{node}")


MUTATIONS = (
    Mutation(
        "a lag that nears what retention leaves is said",
        "serving/disk.py",
        "if unarchived >= _LAG_NEAR * kept:",
        "if False:",
        _test("unit/test_disk_budget.py"),
    ),
    Mutation(
        "the disk is the broker's",
        "contract/kafka_disk.py",
        'if cluster_id is None or f"cluster.id={cluster_id}" not in properties.splitlines():',
        "if False:",
        _test("unit/test_disk_budget.py"),
    ),
    Mutation(
        "what is not archived is not deleted",
        "ingest/topic_budget.py",
        "if missing > retention_bytes:",
        "if False:",
        _test("unit/test_disk_budget.py"),
    ),
    Mutation(
        "who hangs is started again",
        "ingest/heartbeat.py",
        "if stood_s <= self._limit_s:",
        "if True:",
        _test("unit/test_heartbeat.py"),
    ),
    Mutation(
        "progress fence",
        "serving/sql/40_speed.sql",
        "IF position_before <> first_offset OR range_next_offset <= first_offset THEN",
        "IF false THEN",
    ),
    Mutation(
        "quarantine once",
        "serving/sql/40_speed.sql",
        "FROM unnest(rejects) AS n ON CONFLICT DO NOTHING;",
        "FROM unnest(rejects) AS n;",
        _test("layer/test_serving_judgements.py::test_two_runs_may_bring_the_same_reject_at_once"),
    ),
    Mutation(
        "a publication judges anew",
        "serving/sql/50_batch.sql",
        "WHERE r.judged_by = 'both'",
        "WHERE false",
        _test("layer/test_serving_judgements.py"),
    ),
    Mutation(
        "below the cut the archive judges",
        "serving/sql/20_state.sql",
        "THEN 'batch' ELSE 'speed' END",
        "THEN 'batch' ELSE 'batch' END",
        _test("layer/test_serving_judgements.py"),
    ),
    Mutation(
        "a range is judged to its end",
        "batch/share.py",
        "clean = None if one.rejects else offsets",
        "clean = None",
        _test("unit/test_batch_parts.py"),
    ),
    Mutation(
        "no offset is between two parts",
        "serving/handoff.py",
        "for first, after, part in zip(firsts, [*firsts[1:], offsets.next_offset], parts, strict=True):",
        'for first, after, part in zip(firsts, [int(part["offset"].max() or 0) + 1 for part in parts], parts, strict=True):',
        _test("unit/test_batch_parts.py"),
    ),
    Mutation(
        "merged rows take the place of their parts",
        "serving/schema_speed.py",
        "DELETE FROM {table} WHERE ctid = ANY (ARRAY(\n                SELECT s.ctid FROM",
        "SELECT * FROM {table} WHERE ctid = ANY (ARRAY(\n                SELECT s.ctid FROM",
        more=(("serving/schema_speed.py", "            RETURNING *\n        ), merged", "        ), merged"),),
    ),
    Mutation(
        "merged rows stay in their epoch",
        "serving/schema_speed.py",
        "SELECT partition, epoch, {group}",
        "SELECT partition, max(epoch), {group}",
        more=(
            (
                "serving/schema_speed.py",
                "FROM gone GROUP BY partition, epoch, {group}",
                "FROM gone GROUP BY partition, {group}",
            ),
        ),
        proof=_test("layer/test_serving_commits.py::test_merged_rows_are_one_a_key_and_epoch_and_change_no_view"),
    ),
    Mutation(
        "absorbed rows are those of every partition",
        "serving/sql/20_state.sql",
        "coalesce(min(coalesce(c.epoch,",
        "coalesce(max(coalesce(c.epoch,",
        _test("layer/test_serving_readers.py::test_a_partition_that_comes_later_does_not_bring_absorbed_rows_back"),
    ),
    Mutation(
        "a new partition is in the epoch of the others",
        "serving/sql/20_state.sql",
        "coalesce(max(p.epoch), 1)",
        "coalesce(min(1), 1)",
        _test("layer/test_serving_readers.py::test_a_partition_that_comes_later_does_not_bring_absorbed_rows_back"),
    ),
    Mutation(
        "rows of days are a view's own",
        "contract/views.py",
        "in names and not view.by_day:",
        "in names and False:",
        _test("unit/test_kernel.py::test_by_day_makes_a_view_of_whole_days_that_readers_have_too"),
    ),
    Mutation("epoch increment", "serving/sql/50_batch.sql", "max(every.epoch) + 1", "max(every.epoch)"),
    Mutation(
        "rescued offsets are skipped",
        "serving/sql/50_batch.sql",
        "SET next_offset = c.next_offset,",
        "SET next_offset = p.next_offset,",
    ),
    Mutation(
        "planned on the live generation",
        "serving/sql/50_batch.sql",
        "IF coalesce(live.generation, 0) <> planned.base_generation THEN",
        "IF false THEN",
        _test("layer/test_serving_runs.py::test_of_two_runs_at_once_the_second_is_refused"),
    ),
    Mutation("task claim", "serving/sql/50_batch.sql", "claimed := FOUND;", "claimed := true;"),
    Mutation(
        "an ended run writes nothing",
        "serving/sql/50_batch.sql",
        "IF run_state IS DISTINCT FROM 'running' THEN",
        "IF false THEN",
        _test("layer/test_serving_runs.py::test_a_run_that_ended_can_neither_write_nor_publish"),
    ),
    Mutation(
        # The pointer flips in the call's transaction and its days follow in the next one.
        "pointer flip in one transaction",
        "serving/handoff.py",
        """                [run_id, list(days), list(received), list(received.values()), [gone.get(p, 0) for p in received]],
            )
""",
        """                [run_id, [], list(received), list(received.values()), [gone.get(p, 0) for p in received]],
            )
        with transaction(connection):
            connection.execute("SELECT serving.publish_days(%s, %s::date[], %s)", [generation, list(days), run_id])
        with transaction(connection):
""",
        more=(
            (
                "serving/sql/50_batch.sql",
                "-- The run's rows answer for the given days",
                """CREATE OR REPLACE FUNCTION serving.publish_days(generation bigint, days date[], run_id bigint)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ INSERT INTO serving.publication_day SELECT generation, day, run_id FROM unnest(days) AS day $$;

-- The run's rows answer for the given days""",
            ),
            (
                "serving/sql/80_privileges.sql",
                "GRANT EXECUTE ON FUNCTION serving.begin_run,",
                "GRANT EXECUTE ON FUNCTION serving.publish_days, serving.begin_run,",
            ),
        ),
    ),
    Mutation(
        "epochs of kept publications stay",
        "serving/sql/60_garbage.sql",
        "min(coalesce(c.epoch, 0)) AS epoch",
        "max(coalesce(c.epoch, 0)) AS epoch",
        _test("layer/test_serving_runs.py::test_garbage_goes_and_what_a_rollback_needs_stays"),
    ),
    Mutation(
        "only a kept run answers",
        "serving/sql/65_rollback.sql",
        "IF NOT EXISTS (SELECT FROM serving.publication WHERE run_id = asked_run_id) THEN",
        "IF false THEN",
        _test("layer/test_serving_rollback.py::test_runs_that_cannot_be_brought_back_are_named_with_the_reason"),
    ),
    Mutation(
        "speed rows fill the rest",
        "serving/sql/65_rollback.sql",
        "IF missing IS NOT NULL THEN",
        "IF false THEN",
        _test("layer/test_serving_rollback.py::test_a_run_before_one_that_took_offsets_over_is_refused_with_the_range"),
    ),
    Mutation(
        "a rollback is a publication",
        "serving/sql/65_rollback.sql",
        """    INSERT INTO serving.publication VALUES (live.generation + 1, target);
""",
        """    UPDATE serving.publication SET run_id = target WHERE generation = live.generation;
    DELETE FROM serving.publication_day WHERE generation = live.generation;
""",
        _test("layer/test_serving_rollback.py::test_a_run_planned_before_a_rollback_is_refused"),
        more=(
            (
                "serving/sql/65_rollback.sql",
                "SELECT live.generation + 1, day, run_id FROM",
                "SELECT live.generation, day, run_id FROM",
            ),
        ),
    ),
    Mutation(
        "one catalogue for all",
        "serving/sql/75_catalogue.sql",
        "IF code_catalogue IS DISTINCT FROM (SELECT digest FROM serving.catalogue) THEN",
        "IF false THEN",
        _test("layer/test_serving_catalogue.py::test_layers_with_another_catalogue_are_refused"),
    ),
    Mutation(
        "a view without history is computed in full",
        "serving/sql/50_batch.sql",
        "EXISTS (SELECT FROM serving.view_version WHERE state = 'building')",
        "false",
        _test("layer/test_serving_catalogue.py::test_a_new_view_is_shown_with_all_its_history_and_never_with_less"),
    ),
    Mutation(
        "what readers do not see is not compared",
        "serving/schema.py",
        "AND version = {version} AND state = 'live') THEN",
        "AND version = {version}) THEN",
        _test("layer/test_serving_catalogue.py::test_a_new_view_is_shown_with_all_its_history_and_never_with_less"),
    ),
    Mutation(
        "filters go with their run's rows",
        "serving/sql/60_garbage.sql",
        "    DELETE FROM serving.day_filter WHERE run_id = garbage.run_id AND day = garbage.day;\n",
        "",
        _test("layer/test_serving_day_filters.py::test_filters_are_live_kept_and_deleted_with_the_rows_of_their_run"),
    ),
    Mutation(
        "repeats are judged by the live filters",
        "serving/sql/40_speed.sql",
        "IF judged_generation <> live_generation THEN",
        "IF false THEN",
        _test(
            "layer/test_serving_day_filters.py::test_a_commit_that_was_held_against_other_filters_than_the_live_ones_changes_nothing"
        ),
    ),
    Mutation(
        "memory for filters is bounded",
        "speed/day_filters.py",
        "while self.size_bytes > self._most_bytes:",
        "while False:",
        _test("unit/test_speed.py::test_memory_for_filters_is_bounded_and_those_not_met_for_longest_go_first"),
    ),
    Mutation(
        "rename",
        "ingest/archive_files.py",
        "_temporary(folder(self._root, dataset, offsets.partition), offsets.file_name)",
        "offsets.path(self._root, dataset)",
    ),
    Mutation(
        "quarantine before master",
        "ingest/archive_files.py",
        """            self._put_file(offsets, QUARANTINE, rejects.finish(contents), stands)
        self._put_file(offsets, MASTER, events.finish(contents), stands)
""",
        """            self._put_file(offsets, MASTER, events.finish(contents), stands)
            self._put_file(offsets, QUARANTINE, rejects.finish(contents), stands)
            return
        self._put_file(offsets, MASTER, events.finish(contents), stands)
""",
    ),
    Mutation(
        "orphans stay",
        "ingest/archive_files.py",
        "if any(file.first_offset <= orphan.first_offset and orphan.next_offset <= file.next_offset for file in finished):",
        "if True:",
    ),
    Mutation(
        "offset filter of a merge",
        "ingest/archive_files.py",
        "return table.filter(pa.array((offset >= part.first_offset) & (offset < part.next_offset))), contents",
        "return table, contents",
    ),
    Mutation(
        "values are kept",
        "ingest/archive_files.py",
        "_values_of(decoded, records))",
        "pa.nulls(len(decoded.events), pa.binary()))",
        _test("unit/test_new_field.py"),
    ),
    Mutation(
        "a value is left out only if it comes back",
        "contract/loops/wire.py",
        "follows[row] = same",
        "follows[row] = compare",
        _test("unit/test_value_form.py"),
    ),
    Mutation(
        "a value that is left out stays the same",
        "ingest/archive_files.py",
        "if list(columns.items()) == list(of_today.items()):",
        "if True:",
        _test("unit/test_new_field.py"),
    ),
    Mutation(
        "a merge loses no column",
        "ingest/archive_files.py",
        "if len(table) and set(schema.names).difference(table.column_names):",
        "if False:",
        _test("unit/test_new_field.py"),
    ),
    Mutation(
        "what a file lacks follows from its values",
        "contract/master_rows.py",
        """stored = stored.join(_decoded(stored, derived), on="offset", how="left", maintain_order="left")""",
        "pass",
        _test("unit/test_new_field.py"),
    ),
    Mutation(
        "a replay sends what was received",
        "ingest/as_received.py",
        "[value or next(written) for value in values]",
        "encode_all(events)",
        _test("unit/test_ingest_as_received.py"),
    ),
    Mutation(
        "grace of merged-away files",
        "ingest/archive_plan.py",
        "elif files[file].modified_ms < before_ms:",
        "else:",
        _test("unit/test_ingest_archive_plan.py"),
    ),
    Mutation(
        "offset filter of overlapping files",
        "batch/share.py",
        'return rows.filter(pl.col("offset").is_between(piece.first_offset, piece.next_offset, closed="left"))',
        "return rows",
        _test("layer/test_batch.py::test_rows_equal_the_oracles_with_overlapping_files_and_a_cut_inside_a_file"),
    ),
    Mutation(
        "a copy appears whole",
        "batch/share.py",
        'part = copy.with_name(f"{copy.name}.{uuid4().hex}")',
        "part = copy",
        _test("layer/test_batch_share.py::test_a_copy_that_was_broken_off_is_none"),
    ),
    Mutation("old events of a dirty day", "batch/run.py", "without(slices, surveyed_without(connection, days))", "new"),
    Mutation("dedupe of the batch layer", "batch/fold.py", "distinct = first_of_each(events)", "distinct = events"),
    Mutation(
        "a hash that two records have is suspected",
        "batch/fold.py",
        "shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])",
        "shared = ordered[:0]",
    ),
    Mutation(
        "files of a log that was cut stay alone",
        "ingest/archive.py",
        "self._overtaken = self._overtaken or self._is_overtaken(began, position, partition)",
        "pass",
        _test("unit/test_ingest_archive.py"),
    ),
    Mutation("a run waits for its cut", "batch/run.py", "archive.wait_for(cut)", "pass"),
    Mutation(
        "a set clock neither holds nor hurries a file",
        "ingest/archive.py",
        "now_s = self._clock_s()",
        "now_s = self._wall_s()",
        _test("unit/test_ingest_archive.py::test_a_clock_that_is_set_neither_holds_nor_hurries_a_file"),
    ),
    Mutation(
        "a server that answers is not unavailable",
        "serving/failures.py",
        'reason = _REASONS.get(state or "") or _REASONS.get((state or "")[:2])',
        "reason = None",
        _test("layer/test_serving_failures.py::test_a_server_that_answers_says_what_it_cannot"),
    ),
    Mutation(
        "the high watermark is asked first",
        "serving/log_ends.py",
        """        high = _offsets(admin, places, _LAST, IsolationLevel.READ_UNCOMMITTED)
        stable = _offsets(admin, places, _LAST, IsolationLevel.READ_COMMITTED)
""",
        """        stable = _offsets(admin, places, _LAST, IsolationLevel.READ_COMMITTED)
        high = _offsets(admin, places, _LAST, IsolationLevel.READ_UNCOMMITTED)
""",
        _test("layer/test_open_transactions.py::test_traffic_without_transactions_never_seems_held_back"),
    ),
    Mutation(
        "a wait that advances goes on",
        "serving/standstill.py",
        "advanced = position > self._furthest",
        "advanced = self._furthest == float('-inf')",
        _test("unit/test_waits.py::test_a_run_waits_for_an_archive_that_advances_however_long_that_takes"),
    ),
    Mutation(
        "dedupe within a range", "speed/range_counter.py", "distinct = first_of_each(kept.events)", "distinct = kept.events"
    ),
    Mutation(
        "dedupe across ranges",
        "speed/range_counter.py",
        "recent = self._recent.repeats(identities)",
        "recent = self._recent.repeats(identities) & False",
    ),
    Mutation(
        "dedupe against counted days",
        "speed/range_counter.py",
        "recent | self._counted_days.repeats(identities)",
        "recent",
    ),
    Mutation(
        "dedupe across restarts",
        "speed/range_counter.py",
        "            self._remember_until(OffsetRange(wanted.partition, first_offset, wanted.next_offset))\n",
        "            self._recent.restart(first_offset)\n",
    ),
    Mutation(
        "a range is read in parts",
        "speed/reader.py",
        "count = min(inside, self._prefetched.count_within(self._most_bytes))",
        "count = inside",
        _test("unit/test_speed_bounds.py"),
    ),
    Mutation(
        "a commit is bounded",
        "speed/range_counter.py",
        "if counted.size_bytes > COMMIT_BYTES and part.received > 1:",
        "if False:",
        _test("unit/test_speed.py::test_what_a_commit_brings_is_bounded_by_rows_and_by_rejects"),
    ),
    Mutation(
        "all partitions together are bounded",
        "ingest/archive.py",
        "while self._held_bytes() > 2 * self._flush_bytes and not self._stop.is_set():",
        "while False:",
        _test("unit/test_ingest_archive.py::test_what_is_held_of_all_partitions_is_bounded_by_bytes"),
    ),
    Mutation(
        "a merge is bounded",
        "ingest/archive.py",
        "merged = self._files.merge(slices, _MERGE_BYTES, rules, partial(self._stands, rules))",
        "merged = self._files.merge(slices, 1 << 60, rules, partial(self._stands, rules))",
        _test("unit/test_ingest_archive.py::test_files_that_are_too_much_for_memory_stay_as_they_are"),
    ),
    Mutation(
        "a task folds what fits into memory",
        "batch/job.py",
        "portions(events_on(files_at_hand(settings), shares.value[number], days, columns_read()), _TASK_BYTES)",
        "[list(events_on(files_at_hand(settings), shares.value[number], days, columns_read()))]",
        _test("unit/test_batch_job.py::test_a_task_folds_its_events_in_portions"),
    ),
    Mutation(
        "arguments are bounded",
        "serving/handoff.py",
        'fitting = int(np.searchsorted(ends, before + ARGUMENT_BYTES, "right"))',
        "fitting = len(frame)",
        _test("unit/test_batch_parts.py"),
    ),
    Mutation(
        "a failed range is planned shorter",
        "speed/plan.py",
        "plan.limit_offsets = max(1, (failed.next_offset - failed.first_offset) // 2)",
        "plan.limit_offsets = failed.next_offset - failed.first_offset",
        _test("unit/test_speed_bounds.py"),
    ),
    Mutation(
        "a bolt outlives a record",
        "speed/sketch_bolt.py",
        "        except Exception:\n",
        "        except ():\n",
        _test("unit/test_speed_bounds.py"),
    ),
    Mutation(
        "a replay sends one of all copies",
        "ingest/history.py",
        "fresh = distinct.filter(~known)",
        "fresh = distinct",
        _test("unit/test_ingest_replay_order.py::test_of_all_copies_one_is_read"),
    ),
    Mutation(
        "old repeats are recognised",
        "ingest/replay_cover.py",
        "if max(first, covered) < old:",
        "if False:",
        _test("unit/test_ingest_replay.py::test_what_would_be_counted_again_is_refused"),
    ),
    Mutation(
        "repeats of old days are recognised",
        "ingest/replay_cover.py",
        "if first < old and uncovered:",
        "if False:",
        _test("unit/test_ingest_replay.py::test_what_would_be_counted_again_is_refused"),
    ),
    Mutation(
        "a sent record stays sent",
        "serving/sql/65_resolutions.sql",
        "WHERE old.sent_offset IS NULL OR EXCLUDED.sent_offset IS NOT NULL;",
        ";",
        _test("layer/test_serving_replays.py::test_a_record_that_was_sent_stays_so"),
    ),
    Mutation(
        "an archive goes on in its own topic",
        "ingest/archive.py",
        "if extent.end.topic_id not in (None, found.topic_id):",
        "if False:",
        _test("unit/test_ingest_archive.py"),
    ),
    Mutation(
        "a client that knows nothing goes on",
        "ingest/archive.py",
        "        self._consumer = self._connect()\n",
        "        self._consumer = self._connect()\n        self._consumer.list_topics(topic, timeout=_ANSWER_S)\n",
        _test("unit/test_ingest_archive.py"),
    ),
    Mutation(
        "a file holds records of one topic",
        "ingest/archive.py",
        "if found is not None and found.topic_id != self._started_in:",
        "if False:",
        _test("unit/test_ingest_archive.py"),
    ),
    Mutation(
        "a log that was cut below a position is noticed",
        "contract/log_position.py",
        "epoch = -1 if self.leader_epoch is None else self.leader_epoch",
        "epoch = -1",
        _test("unit/test_ingest_archive.py"),
    ),
    Mutation(
        "the speed layer goes on in its own topic",
        "serving/log_check.py",
        "if at.topic_id not in (None, found.topic_id):",
        "if False:",
        _test("unit/test_speed_positions.py"),
    ),
    Mutation(
        "each leader epoch is looked at",
        "speed/range_spout.py",
        "if epochs != self._verified_in or has_shrunk:",
        "if False:",
        _test("unit/test_speed_positions.py"),
    ),
    Mutation(
        "re-reading proves no position",
        "speed/range_counter.py",
        "                # guard: re-reading proves no position\n                self._reader.go_on(committed)\n",
        "",
        _test("unit/test_speed.py"),
    ),
    Mutation(
        "a reader's client knows nothing",
        "speed/reader.py",
        "        if self._knows_topic:\n",
        "        if False:\n",
        _test("unit/test_speed_positions.py"),
    ),
    Mutation(
        "what a lost log had is forgotten",
        "speed/range_counter.py",
        "                self._recent.restart(0)\n",
        "",
        _test("unit/test_speed_positions.py"),
    ),
    Mutation(
        "a resumption is of the archive's end",
        "ingest/resume.py",
        "if end.next_offset != part.archived_offset:",
        "if False:",
        _test("unit/test_ingest_resume.py"),
    ),
    Mutation(
        "what Kafka kept gets no new number",
        "serving/resume.py",
        "is_behind = max(archived.log_offset, low_offset) < kept",
        "is_behind = False",
        _test("unit/test_resumption_plan.py::test_what_kafka_kept_of_a_lost_log_is_archived_first"),
    ),
    Mutation(
        "a file without records has no rejects",
        "ingest/accept.py",
        "for path in files.set_aside(offsets):",
        "for path in ():",
        _test(
            "unit/test_ingest_resume.py::test_rejects_that_an_archiver_has_left_there_are_not_those_of_the_file_without_records"
        ),
    ),
    Mutation(
        "what Kafka still has of a gap is archived",
        "contract/extent.py",
        "first = next((max(gap.first_offset, kept) for gap in self.gaps if gap.next_offset > kept), max(end, kept))",
        "first = max(end, kept)",
        _test("unit/test_ingest_archive.py"),
    ),
    Mutation(
        "a gap of an earlier log is not read from this one",
        "contract/extent.py",
        "if (at := position_of(before) if before else LogPosition(0)).shift != end.shift:",
        "if (at := end).shift != end.shift:",
        _test("unit/test_ingest_archive.py"),
    ),
    Mutation(
        "a gap is named at once",
        "ingest/archive.py",
        "for lost in sorted(self._lost - self._named_lost):",
        "for lost in ():",
        _test("unit/test_ingest_archive.py"),
    ),
    Mutation(
        "a log that ends below the archive fills no gap",
        "ingest/archive.py",
        "if position.next_offset < extent.end.next_offset and extent.end.log_offset > high:",
        "if False:",
        _test("unit/test_ingest_archive.py"),
    ),
    Mutation(
        "only what no file has is given up",
        "ingest/accept.py",
        "if not is_missing:",
        "if False:",
        _test("unit/test_ingest_accept.py"),
    ),
    Mutation(
        "an end that is given up knows its topic",
        "ingest/accept.py",
        "if at.topic_id is None and at.next_offset > end:",
        "if False:",
        _test("unit/test_ingest_accept.py"),
    ),
    Mutation(
        "a run does not wait for what is lost",
        "serving/gaps.py",
        "if gap.is_lost and gap.first_offset < cut[gap.partition]:",
        "if False:",
        _test("unit/test_gaps.py"),
    ),
    Mutation(
        "what was lost before anything was archived is lost",
        "serving/gaps.py",
        "return {partition: Extent(partition, LogPosition(0)) for partition in partitions} | dict(extents)",
        "return dict(extents)",
        _test("unit/test_gaps.py"),
    ),
    Mutation(
        "a loss below the live cut is taken out of all days",
        "serving/sql/50_batch.sql",
        "WHERE l.run_id IS NULL AND l.is_gap AND l.first_offset < c.next_offset) THEN",
        "WHERE false) THEN",
        _test("layer/test_lost_file.py"),
    ),
    Mutation(
        "no rollback brings back what is lost",
        "serving/sql/50_batch.sql",
        "IF has_shown OR gap_count > 0 OR has_forgotten THEN",
        "IF has_shown OR has_forgotten THEN",
        _test("layer/test_lost_file.py"),
    ),
    Mutation(
        "commits are of one log",
        "serving/sql/40_speed.sql",
        "IF log_topic_id <> known_topic_id OR log_shift <> known_shift THEN",
        "IF false THEN",
        _test("layer/test_positions.py::test_a_commit_of_another_topic_changes_nothing"),
    ),
    Mutation(
        "a run has one log",
        "serving/sql/50_batch.sql",
        "IF other_log IS NOT NULL THEN",
        "IF false THEN",
        _test("layer/test_positions.py::test_a_run_is_of_one_topic_unless_it_takes_over_what_followed"),
    ),
    Mutation(
        "a range is of one topic",
        "speed/reader.py",
        "if topic_id != self._topic_id:",
        "if False:",
        _test("unit/test_speed_positions.py::test_what_is_read_while_the_topic_is_made_again_is_of_no_topic"),
    ),
    Mutation(
        "archive and views are of one log",
        "batch/cut.py",
        "require_positions(settings, admin, reader, held)",
        "pass",
        _test("unit/test_one_log.py::test_an_archive_that_went_on_where_the_speed_layer_could_not_is_not_published"),
    ),
    Mutation(
        "the speed layer follows the archive into another log",
        "batch/cut.py",
        "following = {partition: at for partition, at in committed.items() if ends[partition].shift > at.shift}",
        "following = {}",
        _test("unit/test_one_log.py::test_what_the_speed_layer_has_counted_of_the_log_is_below_the_cut"),
    ),
    Mutation(
        "the speed layer does not go back in a log",
        "batch/cut.py",
        "ends[partition] = max(end, counted, key=lambda at: at.next_offset)",
        "pass",
        _test("unit/test_one_log.py::test_what_the_speed_layer_has_counted_of_the_log_is_below_the_cut"),
    ),
    Mutation(
        "the archive's epoch may have ended below what the speed layer has read",
        "batch/cut.py",
        "leader_epoch=following[partition].leader_epoch",
        "leader_epoch=end.leader_epoch",
        _test("unit/test_one_log.py::test_what_the_speed_layer_has_counted_of_the_log_is_below_the_cut"),
    ),
    Mutation(
        "what the speed layer counts while a run looks is below its cut",
        "serving/sql/50_batch.sql",
        "AND l.shift > p.shift AND l.topic_id = p.topic_id AND p.next_offset",
        "AND false AND p.next_offset",
        _test("layer/test_positions.py::test_what_the_speed_layer_commits_while_a_run_looks_is_below_the_cut"),
    ),
    Mutation(
        "a log that follows is numbered above all that was read",
        "serving/resume.py",
        "max(archived.next_offset, counted.next_offset) + 1,",
        "max(archived.next_offset, counted.next_offset + 1),",
        _test("unit/test_resumption_plan.py::test_an_archive_that_went_on_is_numbered_anew_too"),
    ),
    Mutation(
        "what a reader that can go on has read is not lost",
        "serving/resume.py",
        "if speed.lost is None and counted.topic_id is not None:",
        "if False:",
        _test("unit/test_resumption_plan.py::test_what_a_speed_layer_has_read_that_can_go_on_is_not_lost"),
    ),
    Mutation(
        "a change of the log is held against Kafka",
        "batch/audit_logs.py",
        "found = changes(ends)",
        "found = []",
        _test("unit/test_audit_logs.py"),
    ),
    Mutation(
        "partitions that are added are counted",
        "speed/range_spout.py",
        "has_more = self._plan is not None and not self._partitions <= self._plan.partitions",
        "has_more = False",
        _test("unit/test_speed_positions.py::test_a_spout_plans_partitions_that_are_added_from_their_first_offset_on"),
    ),
    Mutation(
        "partitions that are added are archived",
        "ingest/archive.py",
        "if not found.partitions <= self._buffers.keys():",
        "if False:",
        _test("unit/test_ingest_archive.py"),
    ),
    Mutation(
        "the archive's partitions are the topic's",
        "ingest/archive.py",
        "elif extent.end.log_offset > 0:",
        "elif False:",
        _test("unit/test_ingest_archive.py"),
    ),
    Mutation(
        "no partition is taken away",
        "serving/log_check.py",
        "elif partition not in found.partitions and at.log_offset > 0:",
        "elif False:",
        _test("unit/test_speed_positions.py"),
    ),
    Mutation(
        "a partition that nobody reads is found",
        "batch/audit.py",
        "if one.is_overdue(datetime.now(UTC)):",
        "if False:",
        _test("unit/test_batch_audit.py"),
    ),
    Mutation(
        "a new source is announced as far as it differs",
        "ingest/counting.py",
        "if self._beginning.end < self._differs_end:",
        "if False:",
        _test("unit/test_ingest_sources.py::test_a_file_that_becomes_shorter_while_it_is_read_is_no_other_ones_beginning"),
    ),
    Mutation(
        "what is sent was announced",
        "ingest/counting.py",
        "if not self._file.live or self._require_source().number not in self._group.sources:",
        "if False:",
        _test("unit/test_ingest_sources.py::test_a_replay_that_was_killed_is_gone_on_with_where_the_register_says"),
    ),
    Mutation(
        "what was announced and not counted is sent again",
        "ingest/recognition.py",
        "if self.found or any(one.counted.end <= part.offset < one.announced.end for one in self._alike.values()):",
        "if self.found:",
        _test("unit/test_ingest_sources.py::test_a_replay_that_was_killed_is_gone_on_with_where_the_register_says"),
    ),
    Mutation(
        "what differs is another source",
        "ingest/recognition.py",
        "for number, one in self._alike.items() if self._is_alike(one, mark, new)}",
        "for number, one in self._alike.items()}",
        _test("unit/test_ingest_sources.py::test_two_servers_logs_begin_alike_and_both_count"),
    ),
    Mutation(
        "of two versions one is made",
        "ingest/register.py",
        'if not self._store.rename(temporary, f"{folder}/{_file(version)}"):',
        'if self._store.rename(temporary, f"{folder}/{_file(version)}") is None:',
        _test("unit/test_ingest_sources.py::test_of_two_that_change_the_register_at_once_one_thinks_again"),
    ),
    Mutation(
        "an old version is no newest one",
        "ingest/register.py",
        "if any((found := _VERSION.fullmatch(file.name)) and int(found[1]) > version for file in self._store.list(folder)):",
        "if False:",
        _test("unit/test_ingest_sources.py::test_of_two_that_change_the_register_at_once_one_thinks_again"),
    ),
    Mutation(
        "a truncated log is another text",
        "ingest/follow.py",
        "truncated = [log for log in self._logs() if log.has_changed() and log.is_another()]",
        "truncated: list[OpenLog] = []",
        _test("unit/test_ingest_follow.py::test_what_was_written_before_a_truncation_is_in_the_copy"),
    ),
    Mutation("a failed range voids its plan", "speed/plan.py", "plan.void = True", "pass", _test("unit/test_speed.py")),
    Mutation(
        "what happens later is new",
        "contract/forgotten.py",
        "early = np.flatnonzero(times_us < self._latest_us)",
        "early = np.arange(len(events))",
        _test("unit/test_forgotten.py"),
        more=(
            ("contract/forgotten.py", "forgotten[early] |= times_us[early] < until_us", "forgotten[early] |= until_us > 0"),
        ),
    ),
    Mutation(
        "what has no time is forgotten whenever it comes",
        "contract/forgotten.py",
        "if until_us and (happened_us is None or min(happened_us, came_us) < until_us):",
        "if until_us and min(happened_us or came_us, came_us) < until_us:",
        _test("unit/test_forgotten.py"),
    ),
    Mutation(
        "a lifted statement forgets nothing",
        "contract/forgotten.py",
        'if one.kind != "lift" and one.number not in lifted]',
        'if one.kind != "lift"]',
        _test("unit/test_forgotten.py"),
    ),
    Mutation(
        "digests are of this key",
        "contract/forgotten.py",
        "if one.key_check != self._keyed.check:",
        "if False:",
        _test("unit/test_forgotten.py"),
    ),
    Mutation(
        "all that is there is forgotten, whatever its time",
        "ingest/forget.py",
        "until_us = max(time.time_ns() // 1_000, 1 + (amount.last_us or 0))",
        "until_us = time.time_ns() // 1_000",
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "only what stands is lifted",
        "ingest/forget.py",
        "if number not in known:",
        "if False:",
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "no statement takes another one's place",
        "ingest/forgotten_log.py",
        "if self._put(statement_name(numbered.number), msgspec.json.encode(numbered)):",
        "if self._put(statement_name(numbered.number), msgspec.json.encode(numbered)) or True:",
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "what is forgotten leaves the files",
        "ingest/forget_files.py",
        "files.replace(found.master.path, encode(found.master.kept, contents))",
        "pass",
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "and their quarantine",
        "ingest/forget_files.py",
        "_replace(files, found.rejected.path, found.rejected.kept, contents)",
        "pass",
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "what is forgotten stays counted",
        "ingest/forget_files.py",
        "marks = said.forgetting(np.concatenate(offsets))",
        "marks = said.forgotten",
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "only files that hold it are replaced",
        "ingest/forget_files.py",
        "if not found:",
        "if False:",
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "a file is replaced at once",
        "ingest/archive_files.py",
        "self._store.replace(temporary, path)",
        "self._store.delete(path)\n        self._store.rename(temporary, path)",
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "a merge keeps what is forgotten in mind",
        "ingest/archive_files.py",
        "marks = pack(merged.first_offset, merged.next_offset, forgotten)",
        'marks = ""',
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "what is forgotten is not archived again",
        "ingest/archive.py",
        "decoded, forgotten = rules.keep(received)",
        "decoded, forgotten = Rules().keep(received)",
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "a file that comes late keeps to what was said",
        "ingest/archive_files.py",
        "if not stands():",
        "if False:",
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "a merge takes out what is forgotten",
        "ingest/archive_files.py",
        "gone = rules.events(frame_of(table.select(KNOWING)))",
        "gone = np.zeros(len(table), np.bool_)",
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "quarantine without master keeps to it too",
        "ingest/forget_files.py",
        "alone = [files.path(QUARANTINE, file) for file in sorted(rejected.keys() - ranges.keys())]",
        "alone: list[str] = []",
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "a pair that is half done is ended",
        "ingest/forget_files.py",
        "said = np.isin(",
        "said = False & np.isin(",
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "what was lifted half way is ended too",
        "contract/forgotten.py",
        'if one.kind != "lift" and one.number not in finished]',
        'if not {one.number} & (finished | {lift.lifts for lift in self.statements}) and one.kind != "lift"]',
        _test("unit/test_ingest_forget.py"),
    ),
    Mutation(
        "what is forgotten is not counted",
        "speed/range_counter.py",
        "kept = part.without(rules)",
        "kept = part",
        _test("unit/test_speed.py"),
    ),
    Mutation(
        "commits know what is forgotten",
        "serving/sql/40_speed.sql",
        "IF known_statement <> last_statement THEN",
        "IF false THEN",
        _test("layer/test_serving_forgotten.py"),
    ),
    Mutation(
        "a run that began before is given up",
        "serving/sql/67_forgotten.sql",
        "WHERE r.state = 'running';",
        "WHERE false;",
        _test("layer/test_serving_forgotten.py"),
    ),
    Mutation(
        "rows of what is forgotten are not written down",
        "serving/sql/55_drift.sql",
        "compared := compared AND NOT EXISTS (SELECT FROM serving.forgotten AS f WHERE f.run_id IS NULL);",
        "",
        _test("layer/test_serving_forgotten.py"),
    ),
    Mutation(
        "what is forgotten leaves all days",
        "serving/sql/50_batch.sql",
        "IF asked_kind = 'incremental' AND EXISTS (SELECT FROM serving.forgotten WHERE run_id IS NULL) THEN",
        "IF false THEN",
        _test("layer/test_serving_forgotten.py"),
    ),
    Mutation(
        "nor what is forgotten",
        "serving/sql/50_batch.sql",
        "IF has_shown OR gap_count > 0 OR has_forgotten THEN",
        "IF has_shown OR gap_count > 0 THEN",
        _test("layer/test_serving_forgotten.py"),
    ),
    Mutation(
        "what is forgotten was received",
        "batch/run.py",
        "return self.events + self.quarantined + self.forgotten",
        "return self.events + self.quarantined",
        _test("layer/test_forgotten.py"),
    ),
    Mutation(
        "a run begins when the files keep to what was said",
        "batch/run.py",
        """        # guard: a run begins when the files keep to what was said
        require_forgotten(archive.said())
""",
        "        # guard: a run begins when the files keep to what was said\n",
        _test("layer/test_forgotten.py"),
    ),
    Mutation(
        "an archive that was made anew knows what is forgotten",
        "batch/run.py",
        "if (known := record_forgotten(connection, said)) > said.version:",
        "if (known := record_forgotten(connection, said)) < 0:",
        _test("layer/test_forgotten.py"),
    ),
    Mutation(
        "a file that holds what is forgotten is found",
        "batch/audit_archive.py",
        "if count := forgotten_rows(dataset, table, self._rules):",
        "if count := 0:",
        _test("layer/test_forgotten.py"),
    ),
    Mutation(
        "a client is looked for in a log's line as the log has it",
        "contract/forgotten.py",
        '_clients_in(fields.get("line", text))',
        "_clients_in(text)",
        _test("unit/test_forgotten.py"),
    ),
    Mutation(
        "a log's line that is no event has the id that its event would have had",
        "contract/forgotten.py",
        'fields.get("event_id") or fields.get("at", "")',
        'fields.get("event_id", "")',
        _test("unit/test_forgotten.py"),
    ),
    Mutation(
        "older versions, which a crash may have left too, say it no more",
        "ingest/forget_sources.py",
        "register.tidy(group)",
        "pass",
        _test("unit/test_forget_sources.py"),
    ),
    Mutation(
        "one run has the turn",
        "serving/sql/52_turn.sql",
        "IF NOT pg_try_advisory_lock(x'7475726e'::int, 1) THEN",
        "IF false THEN",
        _test("layer/test_serving_turn.py::test_one_session_has_the_turn_and_gives_it_back_when_it_ends"),
    ),
    Mutation(
        "a run that nobody computes ends",
        "batch/watch.py",
        "if self._lacks.too_long:",
        "if False:",
        _test("unit/test_watch.py"),
    ),
    Mutation(
        "sketches are a view's own",
        "contract/views.py",
        "if taken := sorted({view.sketches for view in every}.intersection(names)):",
        "if taken := []:",
        _test("unit/test_kernel.py::test_by_day_makes_a_view_of_whole_days_that_readers_have_too"),
    ),
    Mutation(
        "a row is of one day",
        "serving/sql/22_local_days.sql",
        "= ((bucket + (width - interval '1 microsecond')) AT TIME ZONE zone)::date",
        "= (bucket AT TIME ZONE zone)::date",
        _test("layer/test_serving_days.py"),
    ),
    Mutation(
        "who stands still in the way is ended",
        "serving/sql/05_idle.sql",
        "FILTER (WHERE pg_terminate_backend(a.pid))",
        "FILTER (WHERE a.pid > 0)",
        _test(
            "layer/test_serving_catalogue.py::test_who_stands_still_in_a_transaction_is_ended_only_where_it_is_in_the_way"
        ),
    ),
    Mutation(
        "locks and large objects are not a reader's",
        "serving/sql/80_privileges.sql",
        "EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', called);",
        "EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', called);",
        _test("layer/test_serving_readers.py::test_each_role_may_do_its_own_work_only"),
    ),
    Mutation(
        "readers leave connections for the layers",
        "serving/migrate.py",
        "int(most * _READERS_SHARE)",
        "most",
        _test("layer/test_serving_readers.py::test_readers_leave_connections_for_the_layers"),
    ),
    Mutation(
        "no column is lost",
        "serving/query.py",
        "while unique in given or (number > 1 and unique in taken):",
        "while False:",
        _test("layer/test_serving_readers.py::test_json_has_every_column_and_every_digit"),
    ),
    Mutation(
        "no password is shown unasked",
        "serving/status.py",
        "if show_password else {}",
        "if True else {}",
        _test("layer/test_serving_readers.py::test_status_shows_what_is_down_and_what_is_known"),
    ),
)

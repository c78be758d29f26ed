"""What the exporter shows is what status says, in Prometheus' words; what nobody knows has no sample."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from contract.errors import EngineUnavailable
from serving.exporter import Exporter
from serving.facts import Facts
from serving.families import facts_families, status_families
from serving.status import NOT_KNOWN
from tests.fixtures.status import FACTS, LEDGER_ROW, SERVERS, SINCE, WELL, down


def samples(families: Iterable[Metric]) -> dict[tuple[str, ...], float]:
    """By name and values of labels."""
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_it_shows_what_status_says():
    found = samples([*status_families(WELL), *facts_families(FACTS)])
    wanted = {
        ("braid_server_up", "Kafka"): 1,
        ("braid_kafka_high_watermark_offset", "1"): 100,
        ("braid_archive_lag_offsets", "1"): 30,
        ("braid_speed_lag_offsets", "1"): 10,
        ("braid_held_back_offsets", "1"): 5,
        ("braid_open_transaction_since_timestamp_seconds", "1"): SINCE.timestamp(),
        ("braid_ledger_records", "1", "quarantined"): 4,
        ("braid_ledger_difference_records", "1"): 0,
        ("braid_readers_lost",): 0,
        ("braid_run_stood_seconds", "8", "incremental"): 2,
        ("braid_kafka_log_bytes",): 1_000,
        ("braid_disk_warnings",): 1,
        ("braid_quarantine_records", "not_json"): 3,
        ("braid_runs", "incremental", "failed"): 2,
        ("braid_last_run_failed", "incremental"): 1,
        ("braid_last_run_duration_seconds", "incremental"): 12.5,
        ("braid_live_run_published_timestamp_seconds",): SINCE.timestamp(),
    }
    assert {name: found.get(name) for name in wanted} == wanted
    # A run that failed has computed no days, which are not 0.
    assert ("braid_last_run_days", "incremental") not in found


@pytest.mark.parametrize("server", SERVERS)
def test_an_outage_is_an_outage_and_never_a_zero(server: str):
    found, well = samples(status_families(down(server))), samples(status_families(WELL))
    assert found.pop(("braid_server_up", server)) == 0
    assert well.pop(("braid_server_up", server)) == 1
    # What is there is what it was; the rest is not there.
    assert found.items() <= well.items()
    gone = {name for name, *_ in well.keys() - found.keys()}
    of_server = {
        "Kafka": {
            "braid_kafka_high_watermark_offset",
            "braid_speed_lag_offsets",
            "braid_readers_lost",
            "braid_disk_warnings",
        },
        "HDFS NameNode": {"braid_archive_offset", "braid_archive_lag_offsets", "braid_archive_gaps"},
        "TimescaleDB": {"braid_speed_offset", "braid_ledger_records", "braid_forgotten_statements_shown"},
    }.get(server, set())
    assert of_server <= gone
    assert bool(of_server) == bool(gone)


def test_where_kafka_did_not_say_whether_readers_are_lost_that_is_not_known():
    from dataclasses import replace

    assert ("braid_readers_lost",) not in samples(status_families(replace(WELL, lost_positions=[f"{NOT_KNOWN}no answer"])))
    assert samples(status_families(replace(WELL, lost_positions=["the archiver …"])))[("braid_readers_lost",)] == 1


def test_all_of_it_is_metrics_as_prometheus_takes_them():
    registry = CollectorRegistry()
    exporter = Exporter(lambda: WELL, lambda: FACTS)
    exporter.refresh()
    registry.register(exporter)
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    assert len(families) > 30
    for family in families:
        assert family.documentation, family.name
        # Base units, and no counter that may become less.
        assert not family.name.endswith(("_ms", "_mb", "_total")), family.name
    assert {s.value for f in families if f.name == "braid_ledger_records" for s in f.samples} >= {LEDGER_ROW["counted"]}


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_quarantine_that_takes_long_to_count_is_counted_less_often_and_servers_are_asked_all_the_same():
    clock, takes_s, asked = Clock(), [0.1], {"status": 0, "facts": 0}

    def status():
        asked["status"] += 1
        return WELL

    def facts():
        asked["facts"] += 1
        clock.now_s += takes_s[0]
        return FACTS

    def refreshed_for(seconds: float) -> dict[str, int]:
        before = dict(asked)
        until_s = clock.now_s + seconds
        while clock.now_s < until_s:
            exporter.refresh()
            assert ("braid_live_run_id",) in samples(exporter.collect())
            clock.now_s += 10
        return {name: asked[name] - before[name] for name in asked}

    exporter = Exporter(status, facts, clock, clock)
    assert refreshed_for(100) == {"status": 10, "facts": 10}
    takes_s[0] = 10.0
    assert refreshed_for(2_000)["facts"] == 10
    # However large it is, it is counted now and then.
    takes_s[0] = 500.0
    assert refreshed_for(5_000)["facts"] >= 4


def test_an_answer_that_does_not_come_is_said():
    clock = Clock()
    exporter = Exporter(lambda: WELL, lambda: FACTS, clock, clock)
    assert exporter.problem() == "no server was asked yet, for 0 s"
    exporter.refresh()
    assert exporter.problem() is None
    assert samples(exporter.collect())[("braid_status_timestamp_seconds",)] == clock.now_s
    clock.now_s += 121
    assert exporter.problem() == "the last answer is 121 s old"


def test_a_database_that_is_gone_takes_its_facts_with_it_and_nothing_else():
    answers: list[Facts | Exception] = [FACTS, EngineUnavailable.at("TimescaleDB", "db:5432", "gone")]

    def facts() -> Facts:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    exporter = Exporter(lambda: down("TimescaleDB") if len(answers) == 1 else WELL, facts)
    exporter.refresh()
    assert ("braid_live_run_id",) in samples(exporter.collect())
    exporter.refresh()
    found = samples(exporter.collect())
    assert ("braid_live_run_id",) not in found
    assert found[("braid_kafka_high_watermark_offset", "1")] == 100

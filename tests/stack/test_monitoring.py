"""Whole stack with METRICS=1: what processes say of themselves is true, Prometheus has it, and the dashboard finds it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from contract.master import MASTER
from tests.drill.faults import Faults
from tests.fixtures.eventually import eventually
from tests.fixtures.stack import ROOT, Stack
from tests.fixtures.yaml_file import yaml_of

PORT = 9464
DASHBOARD = json.loads((ROOT / "compose" / "conf" / "grafana" / "dashboards" / "braid.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# Where all is well, or nobody has sent anything over HTTP for a while, these have nothing to show.
MAY_BE_EMPTY = {"Alerts that fire", "Requests by answer", "How long a request takes", "Quarantine by reason"}


@pytest.fixture
def faults(stack: Stack) -> Faults:
    return Faults(stack, os.environ["COMPOSE_PROJECT_NAME"])


@contextmanager
def gone(faults: Faults, service: str) -> Iterator[None]:
    """Within the block the service is down."""
    faults.kill_and_keep_down(service)
    try:
        yield
    finally:
        faults.start(service)


def answer(stack: Stack, service: str, path: str, port: int = PORT) -> tuple[int, str]:
    """Status and body of a process's answer, asked in its container."""
    asked = ("curl", "-s", "-w", "\n%{http_code}", f"http://127.0.0.1:{port}{path}")
    body, _, status = stack.compose("exec", "-T", service, *asked).rpartition("\n")
    return int(status), body


def counted(stack: Stack, service: str, name: str) -> Counter[str]:
    """A counter of a process by outcome, all partitions together."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(answer(stack, service, "/metrics")[1]):
        for sample in family.samples:
            if sample.name == name:
                found[sample.labels["outcome"]] += int(sample.value)
    return found


def prometheus(stack: Stack, expression: str) -> list[dict[str, Any]]:
    """What Prometheus has now."""
    url = f"http://127.0.0.1:{stack.settings.port_prometheus}/api/v1/query"
    got = requests.get(url, params={"query": expression}, timeout=10).json()
    assert got["status"] == "success", (expression, got)
    found: list[dict[str, Any]] = got["data"]["result"]
    return found


def test_the_configuration_is_right_and_each_rule_fires_at_its_time(stack: Stack):
    promtool = ("run", "--rm", "-T", "--no-deps", "--volume", f"{ROOT}/tests/alerts:/tests:ro", "--entrypoint", "promtool")
    stack.compose(*promtool, "prometheus", "check", "config", "/etc/braid/prometheus/prometheus.yml")
    assert "SUCCESS" in stack.compose(*promtool, "prometheus", "test", "rules", "/tests/alerts_test.yml")


def test_prometheus_reaches_every_process_and_server(stack: Stack):
    config = yaml_of(ROOT / "compose" / "conf" / "prometheus" / "prometheus.yml")
    jobs = {job["job_name"] for job in config["scrape_configs"]}

    def all_up() -> None:
        up = {(found["metric"]["job"], found["metric"]["instance"]): found["value"][1] for found in prometheus(stack, "up")}
        assert {job for job, _ in up} == jobs
        assert set(up.values()) == {"1"}, up

    eventually(all_up, within_s=120)


def test_what_processes_count_is_what_became_of_each_record(stack: Stack):
    def ledger() -> Counter[str]:
        names = ("counted", "duplicate", "quarantined", "forgotten")
        sums = stack.ask(f"SELECT {', '.join(f'sum({name})::bigint' for name in names)} FROM ledger")[0]
        return Counter(dict(zip(names, sums, strict=True)))

    stack.wait_until_counted()
    ledger_before, speed_before = ledger(), counted(stack, "supervisor", "braid_speed_records_total")
    archive_before = counted(stack, "archiver", "braid_archive_records_total")
    stack.simulate(5_000, seed=77)

    def equal() -> None:
        assert counted(stack, "supervisor", "braid_speed_records_total") - speed_before == ledger() - ledger_before

    eventually(equal, within_s=30)

    def archived() -> None:
        found = counted(stack, "archiver", "braid_archive_records_total") - archive_before
        assert found.total() == (ledger() - ledger_before).total() == 5_000
        assert found["reject"] == (ledger() - ledger_before)["quarantined"]

    eventually(archived, within_s=60)

    def shown() -> None:
        lags = prometheus(stack, "braid_speed_lag_offsets + braid_archive_lag_offsets")
        assert {found["value"][1] for found in lags} == {"0"}

    eventually(shown, within_s=60)


def test_who_waits_for_a_server_is_alive_and_not_ready_and_says_for_whom(stack: Stack, faults: Faults):
    assert answer(stack, "archiver", "/readyz")[0] == 200
    with gone(faults, "namenode"):
        stack.tools("-m", "ingest", "simulate", "--events", "100", "--seed", "78", "--rate", "1000")

        def waits() -> None:
            status, body = answer(stack, "archiver", "/readyz")
            assert status == 503
            assert "HDFS at" in json.loads(body)["detail"]

        eventually(waits, within_s=120)
        assert answer(stack, "archiver", "/healthz")[0] == 200
        assert answer(stack, "supervisor", "/readyz")[0] == 200

    def goes_on() -> None:
        assert answer(stack, "archiver", "/readyz")[0] == 200

    eventually(goes_on, within_s=60)


def test_a_spout_without_the_database_is_alive_and_not_ready(stack: Stack, faults: Faults):
    with gone(faults, "timescaledb"):

        def waits() -> None:
            status, body = answer(stack, "supervisor", "/readyz")
            assert status == 503
            assert "partition" in body or "the spout has not had an answer" in body

        stack.tools("-m", "ingest", "simulate", "--events", "100", "--seed", "79", "--rate", "1000")
        eventually(waits, within_s=120)
        assert answer(stack, "supervisor", "/healthz")[0] == 200
        assert answer(stack, "exporter", "/readyz")[0] == 200

        def shown() -> None:
            (up,) = prometheus(stack, 'braid_server_up{server="TimescaleDB"}')
            assert up["value"][1] == "0"
            # Nobody knows it, so it is not 0.
            assert prometheus(stack, "braid_ledger_records or braid_runs or braid_speed_offset") == []

        eventually(shown, within_s=60)

    def goes_on() -> None:
        assert answer(stack, "supervisor", "/readyz")[0] == 200

    eventually(goes_on, within_s=120)
    stack.wait_until_counted()


def test_what_an_instance_counts_is_not_for_those_who_send_to_it(stack: Stack):
    assert answer(stack, "collector", "/metrics", port=8000)[0] == 200
    for path in ("/metrics", "/METRICS", "/metrics?x"):
        assert requests.get(f"http://127.0.0.1:{stack.settings.port_collector}{path}", timeout=10).status_code == 404


@pytest.fixture(scope="module")
def _something_to_show(stack: Stack) -> None:
    stack.simulate(2_000, seed=80)
    stack.run("make", "--silent", "batch", "WAIT=1")


@pytest.mark.usefixtures("_something_to_show")
@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_query_of_the_dashboard_has_an_answer(stack: Stack, panel: dict[str, Any]):
    for target in panel["targets"]:

        def answered(target: dict[str, Any] = target) -> None:
            if "expr" in target:
                # A value may be none yet: a rate needs two samples, a percentile some traffic.
                found = prometheus(stack, target["expr"].replace("$__rate_interval", "5m"))
            else:
                found = sql(stack, target["rawSql"], is_series=target["format"] == "time_series")
            assert found or panel["title"] in MAY_BE_EMPTY, target

        eventually(answered, within_s=60)


def sql(stack: Stack, query: str, is_series: bool) -> list[Any]:
    """As Grafana asks: with its macros written out, for the last two days, and for all sites."""
    now = datetime.now(UTC)
    first, last = (f"'{at:%Y-%m-%dT%H:%M:%SZ}'" for at in (now - timedelta(days=2), now))
    query = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {first} AND {last}", query)
    query = query.replace("$__timeFrom()", first).replace("$__timeTo()", last)
    sites = ", ".join(f"'{site}'" for (site,) in stack.ask(DASHBOARD["templating"]["list"][0]["query"]))
    query = query.replace("$site", sites)
    assert "$" not in query
    with psycopg.connect(**reader(stack)) as connection:
        cursor = connection.execute(query.encode())
        rows = cursor.fetchall()
        columns = {column.name: column.type_code for column in cursor.description or ()}
    if is_series:
        # A series is a time and numbers that a client without types of its own can read.
        numbers = {psycopg.adapters.types[name].oid for name in ("int8", "float8")}
        assert columns.pop("time") == psycopg.adapters.types["timestamptz"].oid
        assert set(columns.values()) <= numbers, columns
    return rows


def reader(stack: Stack) -> dict[str, Any]:
    settings = stack.settings
    place = {"host": settings.database_host, "port": settings.database_port, "dbname": settings.database_name}
    return place | {"user": "reader", "password": settings.secret("database_reader_password")}


@pytest.fixture
def _json(stack: Stack) -> Iterator[None]:
    """Within the test, archiver and speed layer log JSON, each commit too."""
    wanted = ("BRAID_LOG_FORMAT=json", "BRAID_LOG_LEVEL=debug")
    stack.run("env", *wanted, "compose/engine", "compose", "up", "-d", "--no-deps", "--wait", "archiver", "supervisor")
    yield
    # To compose a container that was made without what it depends on is another one than `make up` wants.
    stack.run("make", "--silent", "up", "TRAFFIC=none")
    stack.wait_until_counted()


@pytest.mark.usefixtures("_json")
def test_lines_are_json_on_request_one_a_commit(stack: Stack):
    stack.simulate(1_000, seed=81)
    for service, process in (("archiver", "ingest archive"), ("supervisor", "speed sketch_bolt")):

        def said(service: str = service, process: str = process) -> list[dict[str, Any]]:
            # Before each line compose 2.26 clears the one that a terminal would have there, in a pipe too.
            text = stack.compose("logs", "--no-log-prefix", "--no-color", service).replace("\x1b[2K", "")
            # What the JVM says before it reads how to log is no line of ours.
            lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
            of_process = [line for line in lines if line["process"] == process and "first_offset" in line]
            assert of_process, f"{service} said {text[-2_000:]}"
            return of_process

        eventually(lambda check=said: check() and None, within_s=60)
        commits = [(line["partition"], line["first_offset"]) for line in said()]
        assert len(set(commits)) == len(commits)
        assert all(line["next_offset"] > line["first_offset"] for line in said())


def test_a_run_and_its_tasks_have_one_correlation_id_and_one_lineage_event(stack: Stack):
    stack.simulate(1_000, seed=82)
    run = ("compose/engine", "compose", "run", "--rm", "-T", "--no-deps", "-e", "BRAID_LOG_FORMAT=json", "batch")
    lines = [json.loads(line) for line in stack.run(*run).stderr.splitlines() if line.startswith("{")]
    (published,) = [line for line in lines if line["message"].endswith(": published")]
    correlation_id, run_id = published["correlation_id"], published["run_id"]
    assert {line["correlation_id"] for line in lines} == {correlation_id}
    assert [line["message"] for line in lines if "OpenLineage" in line["message"]] == []
    stderr = stack.compose("exec", "-T", "spark-worker", "bash", "-c", "cat /tmp/spark/*/*/stderr")
    # Spark copies what its workers say piece by piece, and may come between with a line of its own.
    said = re.findall(r"\{[^{}]*\}", stderr)
    tasks = [json.loads(line) for line in said if correlation_id in line]
    assert tasks
    assert {(line["process"], line["run_id"]) for line in tasks} == {("batch task", run_id)}
    folder = f"{stack.settings.archive_root}/lineage"
    read = f"from hdfs import InsecureClient; c = InsecureClient('{stack.settings.webhdfs_url}', user='braid'); "
    read = read.replace(f"localhost:{stack.settings.port_namenode}", "namenode:9870")
    (name,) = stack.tools("-c", f"{read}print(*[n for n in c.list('{folder}') if '{correlation_id}' in n])").split()
    event = json.loads(stack.tools("-c", f"{read}\nwith c.read('{folder}/{name}') as file: print(file.read().decode())"))
    assert (event["eventType"], event["run"]["runId"]) == ("COMPLETE", correlation_id)
    assert event["inputs"][0]["name"].endswith(f"/{MASTER}")

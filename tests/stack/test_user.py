"""Whole stack: what a user types, and what a stranger's client sees."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import socket
from pathlib import Path

import psycopg
import pytest

from contract.views import VIEWS
from ingest.sample_truth import Truth
from tests.fixtures.logs import awk_lines
from tests.fixtures.stack import ROOT, Stack
from tests.oracle import expected_rows

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (
    "SELECT page, bucket::date::text, sum(views)::bigint, sum(errors)::bigint, sum(bytes_sent)::bigint, "
    "merged_count(visitors) FROM page_traffic_sketches WHERE site = '{}' GROUP BY 1, 2"
)


def replay(stack: Stack, log: Path, site: str = "demo", check: bool = True) -> tuple[int, str, str]:
    done = stack.run("make", "--silent", "replay", f"LOG={log}", f"SITE={site}", check=check)
    return done.returncode, done.stdout, done.stderr


def test_readmes_first_log_gives_readmes_answer_and_the_truth(stack: Stack):
    commands, answer, _ = README.split("Write a made-up access log", 1)[1].split("```", 2)
    typed = re.findall(r"^ {4}(make .+)$", commands, re.MULTILINE)
    assert [command.split()[1] for command in typed] == ["sample-log", "replay", "query"]
    # As in a shell of one's own, and not as a part of `make test`.
    said = [stack.run("env", "-u", "MAKELEVEL", "-u", "MAKEFLAGS", "bash", "-c", command).stdout for command in typed]
    assert said[-1] == answer.removeprefix("\n")

    truth = json.loads((ROOT / "build" / "sample" / "truth.json").read_text(encoding="utf-8"))
    summary = "{:,} lines: {:,} counted, 0 repeats, {} quarantined (not_a_request {}), 0 empty or remarks\n"
    numbers = truth["lines"], truth["lines"] - truth["not_requests"], truth["not_requests"], truth["not_requests"]
    assert said[1] == summary.format(*numbers)
    rows = {(page, day): counts for page, day, *counts in stack.ask(PAGES.format("demo"))}
    names = ("views", "errors", "bytes_sent", "visitors")
    expected = {(row["page"], row["day"]): [row[name] for name in names] for row in truth["by_page_and_day"]}
    assert {key: counts[:3] for key, counts in rows.items()} == {key: counts[:3] for key, counts in expected.items()}
    # Pseudonyms differ from stack to stack: five times a sketch's standard error of 2.3 % of visitors (1.04 / sqrt(2,048)).
    assert all(abs(counts[3] - expected[key][3]) <= max(3, 0.115 * expected[key][3]) for key, counts in rows.items())
    # What each pseudonym stands for is exact: there are as many as there were clients, and sketches are of just these.
    outcome = stack.truth()
    visitors: dict[tuple[str, str], set[str]] = {key: set() for key in expected}
    for (bucket, site, page), row in outcome.rows["page_traffic"].items():
        if site == "demo":
            visitors[page, f"{bucket:%Y-%m-%d}"].update(row.visitors)
    assert {key: len(some) for key, some in visitors.items()} == {key: counts[3] for key, counts in expected.items()}
    (pages,) = [view for view in VIEWS if view.name == "page_traffic"]
    right = [row for row in expected_rows(outcome, pages.name) if row[1] == "demo"]
    assert stack.merged(pages, "WHERE site = 'demo'") == right

    before = stack.everything()
    again = stack.run("bash", "-c", typed[1]).stdout
    assert again == f"{truth['lines']:,} lines: 0 counted, {truth['lines']:,} repeats, 0 quarantined, 0 empty or remarks\n"
    assert stack.everything() == before


def test_a_whole_log_gives_what_awk_counts(stack: Stack, access_log: Path, request: pytest.FixtureRequest):
    site = f"awk.{request.node.callspec.params['access_log']}"
    by_awk = awk_lines(access_log)
    _, said, _ = replay(stack, access_log, site=site)
    (counted,) = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) counted", said))
    sums = "sum(views), sum(bytes_sent), sum(errors), merged_count(visitors)"
    ((views, bytes_sent, errors, visitors),) = stack.ask(f"SELECT {sums} FROM page_traffic_sketches WHERE site = '{site}'")
    assert len(by_awk) == views == counted
    assert (bytes_sent, errors) == (sum(it.bytes_sent for it in by_awk), sum(it.status >= 500 for it in by_awk))
    assert visitors == pytest.approx(len({it.client for it in by_awk}), rel=0.1)


def test_a_gzipped_log_with_a_broken_line(stack: Stack, sample_log: tuple[Path, Truth], tmp_path: Path):
    log = tmp_path / "access-copy.log"
    lines = [line for line in sample_log[0].read_bytes().splitlines(keepends=True) if b"HTTP/1.1" in line][:100]
    log.write_bytes(b"".join([*lines[:50], b"no log line\n", b"x" * 10_000_000 + b"\n", *lines[50:]]))
    log = tmp_path / "access-copy.log.gz"
    log.write_bytes(gzip.compress(log.with_suffix("").read_bytes(), 1))
    log.chmod(0o600)
    quarantined = dict(stack.ask("SELECT reason, count(*) FROM quarantine GROUP BY reason"))
    cut = "SELECT count(*), max(length(value)) FROM serving.quarantined WHERE value_bytes = 65537"
    ((cut_before, _),) = stack.ask(cut, role="postgres")
    _, said, _ = replay(stack, log, site="gzipped")
    assert "102 lines: 100 counted, 0 repeats, 2 quarantined (not_a_log_line 1, too_large 1)" in said
    assert stack.ask("SELECT sum(views) FROM site_traffic WHERE site = 'gzipped'") == [(100,)]
    after = dict(stack.ask("SELECT reason, count(*) FROM quarantine GROUP BY reason"))
    assert {
        reason: after[reason] - quarantined.get(reason, 0) for reason in after if after[reason] != quarantined.get(reason)
    } == {
        "not_a_log_line": 1,
        "too_large": 1,
    }
    assert stack.ask(cut, role="postgres") == [(cut_before + 1, 4_096)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "no such file; 'make sample-log' writes one"), (b"", "is empty"), (b"\x7fELF\0\0", "no line of the first 1 is")],
)
def test_unusable_files_are_refused_in_one_line(stack: Stack, tmp_path: Path, content: bytes | None, complaint: str):
    log = tmp_path / "some.log"
    if content is not None:
        log.write_bytes(content)
    status, said, talk = replay(stack, log, check=False)
    assert status != 0
    assert said == ""
    assert complaint in talk.lower()
    assert "Traceback" not in talk


def test_a_folder_is_refused(stack: Stack, tmp_path: Path):
    status, _, talk = replay(stack, tmp_path, check=False)
    assert status != 0
    assert "is a directory" in talk.lower()


def test_query_prints_only_the_result(stack: Stack):
    done = stack.run("make", "--silent", "query", "FORMAT=json", "SQL=select 1 as one, 'a,b' as text")
    assert json.loads(done.stdout) == [{"one": 1, "text": "a,b"}]
    done = stack.run("make", "--silent", "query", "FORMAT=csv", "SQL=select 'a,b' as text, null as nothing")
    assert list(csv.reader(io.StringIO(done.stdout))) == [["text", "nothing"], ["a,b", ""]]


def test_a_statement_reaches_the_database_as_it_is_typed(stack: Stack, tmp_path: Path):
    statement = r"""select 'price=$5' as price, '\.html$' as pattern, $$a 'b' $(HOME) "c" `d`$$ as quoted"""
    expected = [{"price": "price=$5", "pattern": r"\.html$", "quoted": "a 'b' $(HOME) \"c\" `d`"}]
    file = tmp_path / "question.sql"
    file.write_text(f"-- {statement}\n{statement};\n")
    for arguments, text in (
        ([f"SQL={statement}"], None),
        ([f"SQL_FILE={file}"], None),
        (["SQL_FILE=-"], statement),
        ([], statement),
    ):
        done = stack.run("make", "--silent", "query", "FORMAT=json", *arguments, text=text)
        assert json.loads(done.stdout) == expected
    done = stack.run("make", "--silent", "query", f"SQL_FILE={tmp_path / 'none.sql'}", check=False)
    assert (done.returncode != 0, "none.sql cannot be read" in done.stderr) == (True, True)


def test_psql_lists_our_functions_without_those_of_the_extensions(stack: Stack):
    said = stack.run("make", "--silent", "psql", text=":functions\n\\d\n").stdout
    functions, _, relations = said.partition("List of relations")
    assert "\\d shows the views" in functions
    names = [line.split(" | ")[0].strip() for line in functions.splitlines() if " | " in line]
    assert {"merged_count", "total", "site_traffic_local_days", "page_traffic_as_of"} < set(names)
    assert {"time_bucket", "hll_union_agg"}.isdisjoint(names)
    # What somebody looks for comes before what each view has.
    assert names.index("total") < names.index("page_traffic_as_of")
    assert "site_traffic_by_day_sketches" in relations


def test_bad_sql_gives_the_databases_message(stack: Stack):
    done = stack.run("make", "--silent", "query", "SQL=select nothing from page_traffic", check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert 'column "nothing" does not exist' in done.stderr
    assert "Traceback" not in done.stderr


def test_kcat_is_a_producer_and_a_reader(stack: Stack):
    event = {
        "event_id": "kcat:1", "event_time": "2026-01-02T03:04:05Z", "site": "kcat", "page": "/", "visitor_id": "me",
        "status": 503, "bytes_sent": 5, "duration_ms": 12.5,
    }  # fmt: skip
    line = json.dumps(event)
    kcat = ("exec", "-T", "kafka", "kcat", "-b", "kafka:29092", "-t", "pageviews")
    for _ in range(2):
        stack.compose(*kcat, "-P", "-k", "me", text=f"{line}\n")
    assert stack.compose(*kcat, "-C", "-e", "-q", "-K", "|").splitlines().count(f"me|{line}") == 2
    stack.wait_until_counted()
    assert stack.ask("SELECT views, errors, bytes_sent FROM page_traffic WHERE site = 'kcat'") == [(1, 1, 5)]


def test_status_tells_what_a_client_needs(stack: Stack):
    secret = (ROOT / "build" / "secrets" / "database_reader_password").read_text(encoding="utf-8")
    assert secret not in stack.run("make", "--silent", "status").stdout
    status = json.loads(stack.run("make", "--silent", "status", "FORMAT=json", "SHOW_PASSWORD=1").stdout)
    assert [part for part in status["health"] if not part["up"]] == []
    addresses = " ".join(status["addresses"].values())
    assert f"127.0.0.1:{stack.settings.port_kafka}" in addresses
    dsn = re.search(r"postgresql://reader:\S+", addresses)
    assert dsn
    with psycopg.connect(dsn[0]) as connection:
        assert connection.execute("SELECT count(*) >= 0 FROM page_traffic").fetchone() == (True,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT value FROM serving.quarantined")


def test_up_again_changes_nothing(stack: Stack):
    listing = ("ps", "--format", "{{.Service}} {{.ID}}")
    before = stack.compose(*listing)
    done = stack.run("make", "--silent", "up", "TRAFFIC=none")
    assert stack.compose(*listing) == before
    assert "postgresql://reader@" in done.stdout


def test_nothing_is_open_or_root(stack: Stack):
    services = json.loads("[" + ",".join(stack.compose("ps", "--format", "json").split("\n")[:-1]) + "]")
    assert {service["Service"] for service in services} >= {"kafka", "supervisor", "namenode", "spark-worker", "timescaledb"}
    for service in services:
        assert all(port["URL"] == "127.0.0.1" for port in service["Publishers"] or [] if port["PublishedPort"]), service
        assert stack.compose("exec", "-T", service["Service"], "id", "-u").strip() == "10001", service["Service"]


def test_no_secret_is_in_the_topologys_configuration_or_in_logs(stack: Stack):
    logs = stack.compose("logs", "--no-color")
    for secret in (ROOT / "build" / "secrets").iterdir():
        assert secret.read_text().strip() not in logs, secret.name
    assert os.stat(ROOT / "build" / "secrets").st_mode & 0o077 == 0


def test_a_taken_port_is_said_before_anything_starts(stack: Stack):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = {"COMPOSE_PROJECT_NAME": "braid-elsewhere", "BRAID_PORT_KAFKA": str(port)}
        done = stack.run(
            "env", *(f"{name}={value}" for name, value in environment.items()), "compose/preflight", check=False
        )
    assert done.returncode == 1
    assert f"port {port} is taken" in done.stderr
    assert "BRAID_PORT_KAFKA=" in done.stderr

"""One OpenLineage event a run, told when it has ended, whatever becomes of the telling."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from batch.lineage import Lineage
from batch.run import Done
from contract.settings import Settings

ID = str(uuid.UUID(int=7))
DONE = Done(12, "incremental", 3, 1_000, 990, 6, 4, 21.0)


@dataclass
class Watched:
    """What Watch has seen of the run."""

    run_id: int = 12
    is_published: bool = False


@pytest.fixture
def catalogue() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """A lineage server: its address, and what came."""
    received: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the base's own name)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", received
    server.shutdown()
    server.server_close()
    thread.join()


def end(settings: Settings, watch: Watched, error: BaseException | None = None) -> list[str]:
    """A run that ends; returns what was said."""
    said: list[str] = []
    # What the run raises is what it raises without lineage.
    raised = nullcontext() if error is None else pytest.raises(type(error))
    with raised, Lineage(settings, ID, watch, said.append) as lineage:  # type: ignore[arg-type]
        if error is not None:
            raise error
        lineage.done = DONE
    return said


def test_a_run_that_ended_well_says_from_what_what_was_made(catalogue: tuple[str, list[tuple[str, Any]]]):
    url, received = catalogue
    assert end(Settings(lineage_url=url), Watched(is_published=True)) == []
    ((path, event),) = received
    assert path == "/api/v1/lineage"
    assert (event["eventType"], event["run"]["runId"], event["job"]["name"]) == ("COMPLETE", ID, "batch")
    tags = {tag["key"]: tag["value"] for tag in event["run"]["facets"]["tags"]["tags"]}
    assert tags == {"run_id": "12", "kind": "incremental", "days": "3"}
    (source,) = event["inputs"]
    assert (source["namespace"], source["name"]) == ("hdfs://namenode:8020", "/braid/master")
    assert source["inputFacets"]["inputStatistics"]["rowCount"] == DONE.received
    views = {output["name"] for output in event["outputs"]}
    assert {"braid.public.site_traffic", "braid.public.page_traffic_by_day"} <= views
    assert {output["namespace"] for output in event["outputs"]} == {"postgres://timescaledb:5432"}


@pytest.mark.parametrize(
    ("error", "is_published", "kind"),
    [
        (RuntimeError("no executor"), False, "FAIL"),
        (KeyboardInterrupt(), False, "ABORT"),
        (RuntimeError("clearing up"), True, "COMPLETE"),
    ],
)
def test_how_a_run_ended_is_what_became_of_the_views(
    catalogue: tuple[str, list[tuple[str, Any]]], error: BaseException, is_published: bool, kind: str
):
    url, received = catalogue
    assert end(Settings(lineage_url=url), Watched(is_published=is_published), error) == []
    ((_, event),) = received
    assert event["eventType"] == kind
    assert (str(error) or "KeyboardInterrupt") == event["run"]["facets"]["errorMessage"]["message"]


def test_a_run_that_had_not_begun_tells_nothing(catalogue: tuple[str, list[tuple[str, Any]]]):
    url, received = catalogue
    assert end(Settings(lineage_url=url), Watched(run_id=0), RuntimeError("another run")) == []
    assert received == []


def test_no_run_fails_because_nobody_hears_of_it():
    for settings in (Settings(lineage_url="http://127.0.0.1:9"), Settings(webhdfs_url="http://127.0.0.1:9")):
        (line,) = end(settings, Watched(is_published=True))
        assert line.startswith("run 12: its OpenLineage event was not told: ")

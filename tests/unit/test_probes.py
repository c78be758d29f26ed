"""Each process answers /healthz, /readyz and /metrics as their readers expect: engines, balancers, Prometheus."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from contract.errors import PortTaken
from contract.probes import Probes


class Served:
    """A process whose state the test says."""

    def __init__(self) -> None:
        self.problems: dict[str, str | None] = {"ready": None, "alive": None}
        self.registry = CollectorRegistry()
        self.counter = Counter("braid_test_records", "Made up", ("partition",), registry=self.registry)
        self.port = 0

    def get(self, path: str, **headers: str) -> tuple[int, str, bytes]:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
            ) as got:
                return got.status, got.headers["Content-Type"], got.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read()


@pytest.fixture
def process() -> Iterator[Served]:
    served = Served()
    probes = Probes(lambda: served.problems["ready"], lambda: served.problems["alive"], lambda: served.registry)
    with probes.served(0, "127.0.0.1") as served.port:
        yield served


@pytest.mark.parametrize(("path", "state"), [("/healthz", "alive"), ("/readyz", "ready")])
def test_a_state_is_a_status_and_says_why(process: Served, path: str, state: str):
    status, kind, body = process.get(path)
    assert (status, kind, json.loads(body)["status"]) == (200, "application/json", state)
    process.problems[state] = "HDFS does not answer"
    status, _, body = process.get(path + "?verbose")
    answer = json.loads(body)
    assert (status, answer["status"], answer["detail"]) == (503, f"not {state}", "HDFS does not answer")
    # Who waits for a server is not to be restarted for that, and the other way round.
    assert {process.get(other)[0] for other in Probes.paths if other != path} == {200}


def test_metrics_are_what_prometheus_reads_in_both_of_its_forms(process: Served):
    process.counter.labels("3").inc(7)
    for accept, read in (("", plain), ("application/openmetrics-text;version=1.0.0", openmetrics)):
        status, kind, body = process.get("/metrics", Accept=accept)
        assert status == 200
        assert kind.startswith(accept.partition(";")[0] or "text/plain")
        samples = [(s.name, s.labels, s.value) for family in read(body.decode()) for s in family.samples]
        assert ("braid_test_records_total", {"partition": "3"}, 7.0) in samples


def test_other_paths_are_not_there(process: Served):
    assert process.get("/")[0] == 404
    assert b"/metrics" in process.get("/metricsx")[2]


def test_nothing_listens_after_the_block(process: Served):
    with Probes().served(0, "127.0.0.1") as port:
        threads = threading.active_count()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz")
    assert threading.active_count() < threads


def test_a_port_that_is_taken_is_said(process: Served):
    said = rf"port {process.port} \(Address already in use\): BRAID_METRICS_PORT=… chooses another"
    with pytest.raises(PortTaken, match=said), Probes().served(process.port, "127.0.0.1"):
        pass

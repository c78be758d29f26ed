"""Whole stack: events over HTTP, through the balancer, into the views; instances and Kafka come and go meanwhile."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx2
import pytest

from tests.drill.faults import Faults
from tests.fixtures.beacon import SCRIPT, beacon
from tests.fixtures.eventually import eventually
from tests.fixtures.stack import ROOT, Stack


@pytest.fixture
def faults(stack: Stack) -> Faults:
    return Faults(stack, os.environ["COMPOSE_PROJECT_NAME"])


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"http://127.0.0.1:{stack.settings.port_collector}", timeout=30) as client:
        yield client


@pytest.fixture
def site() -> str:
    """One that no other test counts."""
    return f"site-{uuid.uuid4().hex[:8]}"


def event(site: str, number: int) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    fixed = {"event_time": now, "site": site, "page": "/", "status": 200, "bytes_sent": 1}
    return {"event_id": f"{site}-{number}"} | fixed


def views(stack: Stack, site: str) -> tuple[int, int]:
    """Views and visitors."""
    ((found, visitors),) = stack.ask(
        f"SELECT coalesce(sum(views), 0)::bigint, coalesce(merged_count(visitors), 0) "
        f"FROM site_traffic_sketches WHERE site = '{site}'"
    )
    return found, visitors


def instances(client: httpx2.Client) -> set[str]:
    """The names of those that answer."""
    answers = [client.get("/healthz") for _ in range(40)]
    return {answer.json()["instance"] for answer in answers if answer.status_code == 200}


@contextmanager
def traffic(url: str, site: str) -> Iterator[list[int]]:
    """Within the block clients send event after event, each again until it is taken; yields what each answer was."""
    statuses: list[int] = []
    numbers, stop = count(), threading.Event()

    def send_on() -> None:
        with httpx2.Client(base_url=url, timeout=30) as client:
            while not stop.is_set():
                body = event(site, next(numbers))
                while True:
                    try:
                        statuses.append(client.post("/events", json=body).status_code)
                    except httpx2.TransportError:
                        statuses.append(0)
                    if statuses[-1] == 202:
                        break
                    stop.wait(0.05)

    workers = [threading.Thread(target=send_on) for _ in range(4)]
    for worker in workers:
        worker.start()
    try:
        yield statuses
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def test_what_curl_sends_is_counted(stack: Stack, site: str):
    url = f"http://127.0.0.1:{stack.settings.port_collector}/events"
    bodies = (
        (json.dumps(event(site, 1)).encode(), ()),
        (json.dumps([event(site, number) for number in range(2, 5)]).encode(), ()),
        ("\n".join(json.dumps(event(site, number)) for number in range(5, 8)).encode(), ()),
        (gzip.compress(json.dumps([event(site, 8), event(site, 1)]).encode()), ("-H", "Content-Encoding: gzip")),
    )
    for body, headers in bodies:
        command = ["curl", "-fsS", "--data-binary", "@-", *headers, url]
        assert b'"accepted"' in subprocess.run(command, input=body, capture_output=True, check=True).stdout
    stack.wait_until_counted()
    # What was sent twice counts once, and it was one client.
    assert views(stack, site) == (8, 1)


def test_the_beacon_is_served_and_what_it_sends_is_counted(stack: Stack, client: httpx2.Client, site: str):
    assert client.get("/beacon.js").text == SCRIPT.read_text(encoding="utf-8")
    assert '<script async src="/beacon.js"' in client.get("/").text
    now_ms = datetime.now(UTC).timestamp() * 1_000
    (request,) = beacon([(202, None)], site=site, time_origin_ms=now_ms, collector=str(client.base_url)).requests
    # The collector's own page may send to it, and no other that is not named.
    origin = str(client.base_url).rstrip("/")
    for asks_not_to_be_followed in ("0", "1"):
        body = request["body"].replace("beacon-", f"beacon-{asks_not_to_be_followed}-")
        headers = {"Origin": origin, "DNT": asks_not_to_be_followed}
        assert client.post(request["url"], content=body, headers=headers).status_code == 202
    assert client.post("/events", content=request["body"], headers={"Origin": "https://x.example"}).status_code == 403
    stack.wait_until_counted()
    assert views(stack, site) == (2, 2)


@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_while_kafka_is_away_it_says_so_and_nothing_is_lost_or_counted_twice(
    stack: Stack, faults: Faults, client: httpx2.Client, site: str, how: str
):
    with traffic(str(client.base_url), site) as statuses:

        def is_taken() -> None:
            assert statuses[-1:] == [202]

        def is_refused() -> None:
            assert statuses[-1] == 503
            assert client.get("/readyz").status_code == 503

        eventually(is_taken, within_s=30)
        if how == "frozen":
            with faults.frozen("kafka"):
                eventually(is_refused, within_s=60)
        else:
            faults.kill_and_keep_down("kafka")
            eventually(is_refused, within_s=60)
            faults.start("kafka")
        eventually(is_taken, within_s=90)
    assert set(statuses) == {202, 503}
    stack.wait_until_counted()
    assert views(stack, site) == (statuses.count(202), 1)


@pytest.fixture
def two_instances(stack: Stack, client: httpx2.Client) -> Iterator[None]:
    def there(number: int) -> None:
        assert len(instances(client)) == number

    stack.run("make", "--silent", "collectors", "N=2")
    eventually(lambda: there(2), within_s=60)
    yield
    stack.run("make", "--silent", "collectors", "N=1")
    eventually(lambda: there(1), within_s=60)


@pytest.mark.usefixtures("two_instances")
@pytest.mark.parametrize("balance", ["leastconn", "weighted", "roundrobin"])
def test_each_way_of_balancing_uses_all_and_survives_the_loss_of_one(
    stack: Stack, faults: Faults, client: httpx2.Client, site: str, balance: str
):
    stack.run(
        *("env", f"BRAID_COLLECTOR_BALANCE={balance}", "compose/engine", "compose", "up", "-d", "--no-deps", "balancer")
    )

    def both() -> None:
        try:
            assert len(instances(client)) == 2
        except httpx2.TransportError as error:
            raise AssertionError(error) from error

    eventually(both, within_s=60)
    with traffic(str(client.base_url), site) as statuses:
        before = len(statuses)
        faults.kill("collector", "python")  # the engine starts it again
        eventually(both, within_s=60)
        assert len(statuses) > before
    # Whoever was on the killed one was asked again by the balancer.
    assert set(statuses) == {202}
    stack.wait_until_counted()
    assert views(stack, site) == (len(statuses), 1)


@contextmanager
def work(url: str) -> Iterator[None]:
    """Within the block clients send what takes time to judge and is refused in the end: nobody else has work of it."""
    body = json.dumps([*(event("load", number) for number in range(4_000)), {}])
    stop = threading.Event()

    def send_on() -> None:
        with httpx2.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                with suppress(httpx2.TransportError):
                    client.post("/events", content=body)

    workers = [threading.Thread(target=send_on) for _ in range(4)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()


@pytest.mark.long
def test_load_brings_instances_and_takes_them_away_again(client: httpx2.Client):
    def there_are(number: int) -> None:
        try:
            assert len(instances(client)) == number
        except httpx2.TransportError as error:
            raise AssertionError(error) from error

    loop = subprocess.Popen(["compose/autoscale", "loop"], cwd=ROOT, env={**os.environ, "AUTOSCALE_COLLECTORS": "1-2"})
    try:
        with work(str(client.base_url)):
            eventually(lambda: there_are(2), within_s=120)
        eventually(lambda: there_are(1), within_s=240)
    finally:
        loop.terminate()
        loop.wait()

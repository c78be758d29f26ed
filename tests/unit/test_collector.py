"""The collector's answers: what is taken, what is refused and why, whose events they are; no engine is needed for that."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from contract.event import MAX_VALUE_BYTES, Event, Reject, decode, encode, read
from contract.settings import Settings
from ingest.collector.body import MOST_EVENTS
from ingest.collector.judged import judged
from ingest.collector.visitors import NOT_FOLLOWED, client_of
from tests.fixtures.collector import NOW_MS, PSEUDONYMS, Collector, encoded, event, served
from tests.fixtures.corpus import MALFORMED
from tests.fixtures.memory_producer import MemoryProducer


@pytest.fixture
def collector() -> Iterator[Collector]:
    with served() as living:
        yield living


def _is_nameless(value: bytes) -> bool:
    return b'"event_id"' in value and b'"visitor_id"' not in value


TWO = [event(1), event(2)]
BODIES = {
    "one": (msgspec.json.encode(event(1)), 1),
    "one over lines": (b'{\n "event_id": "id-1",' + msgspec.json.encode(event(1)).partition(b",")[2], 1),
    "array": (msgspec.json.encode(TWO), 2),
    "spaced array": (msgspec.json.format(msgspec.json.encode(TWO), indent=4), 2),
    "lines": (b"\r\n".join(map(msgspec.json.encode, TWO)), 2),
    "lines with empty ones": (b"\n\n" + b"\n\n".join(map(msgspec.json.encode, TWO)) + b"\n\n", 2),
}


@pytest.mark.parametrize(("body", "events"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_every_form_of_a_body_is_taken(collector: Collector, body: bytes, events: int, packed: bool):
    if packed:
        half = len(body) // 2
        body = gzip.compress(body[:half]) + gzip.compress(body[half:])
    answer = collector.post(body, **({"Content_Encoding": "gzip"} if packed else {}))
    assert answer == (202, {"accepted": events})
    assert collector.sent == [("visitor", one) for one in TWO[:events]]


def test_what_names_its_visitor_goes_byte_for_byte(collector: Collector):
    value = b'{"x" :[1e2, 12345678901234567890123], ' + msgspec.json.encode(event())[1:]
    assert collector.post(b"[" + value + b"]")[0] == 202
    assert collector.producer.values == [value]


REFUSED = {
    "empty": (b" \n", {}, 400, "empty_value"),
    "empty array": (b"[]", {}, 400, "empty_value"),
    "no array": (b"[1,", {}, 400, "not_json"),
    "deep array": (b"[" * 100_000, {}, 400, "too_deep"),
    "unknown packing": (b"{}", {"Content_Encoding": "br"}, 415, "unknown_encoding"),
    "not packed": (b"{}", {"Content_Encoding": "gzip"}, 400, "not_gzip"),
    "cut": (gzip.compress(b"[" + b"1," * 9_999)[:-9], {"Content_Encoding": "gzip"}, 400, "not_gzip"),
    "bomb": (gzip.compress(bytes(1 << 26)), {"Content_Encoding": "gzip"}, 413, "too_large"),
    "bombs": (gzip.compress(bytes(700_000)) * 2, {"Content_Encoding": "gzip"}, 413, "too_large"),
    "too many": (b"[" + b"1," * MOST_EVENTS + b"1]", {}, 413, "too_large"),
    "too long": (b"x" * ((1 << 20) + 1), {}, 413, "too_large"),
}


@pytest.mark.parametrize(("body", "headers", "status", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_request_is_refused(collector: Collector, body: bytes, headers: dict[str, str], status: int, reason: str):
    found, answer = collector.post(body, **headers)
    assert (found, answer["reason"], answer["accepted"]) == (status, reason, 0)
    assert collector.sent == []


def test_a_body_of_unknown_length_is_cut_off_too(collector: Collector):
    def parts() -> Iterator[bytes]:
        for _ in range(2_000):
            yield b" " * 1_000

    answer = collector.client.post("/events", content=parts())
    assert "content-length" not in answer.request.headers
    assert answer.status_code == 413


WRONG = {
    "event_time": ("bad_time", {"event_time": "yesterday"}),
    "status": ("wrong_type", {"status": "200"}),
    "bytes_sent": ("out_of_range", {"bytes_sent": -1}),
    "site": ("missing_field", {"site": None, "visitor_id": None}),
    "page": ("too_long", {"page": "x" * 2_049}),
    "visitor_id": ("empty_text", {"visitor_id": ""}),
    "event_id": ("nul_character", {"event_id": "\0"}),
}


@pytest.mark.parametrize(("field", "reason", "changed"), [(name, *wrong) for name, wrong in WRONG.items()], ids=WRONG)
def test_an_event_that_is_none_is_named_with_its_field_and_nothing_is_sent(
    collector: Collector, field: str, reason: str, changed: dict[str, Any]
):
    status, answer = collector.post(encoded(event(1), event(2, **changed), event(3)))
    assert status == 400
    assert (answer["field"], answer["reason"], answer["events"], answer["rejected"]) == (field, reason, 3, 1)
    assert [(one["index"], one["field"], one["reason"]) for one in answer["rejects"]] == [(1, field, reason)]
    assert collector.sent == []


def test_an_event_of_tomorrow_is_named(collector: Collector):
    status, answer = collector.post(encoded(event(event_time="2026-03-02T12:00:00.001Z")))
    assert (status, answer["field"], answer["reason"]) == (400, "event_time", "too_far_ahead")


def test_of_many_refusals_the_first_are_named_and_all_are_counted(collector: Collector):
    _, answer = collector.post(encoded(*(event(number, status=1) for number in range(50))))
    assert (answer["rejected"], len(answer["rejects"]), answer["accepted"]) == (50, 20, 0)


# All but those that become events by a visitor.
@pytest.mark.parametrize("value", [one for values in MALFORMED.values() for one in values if not _is_nameless(one)])
def test_what_the_decoder_rejects_is_refused_for_its_reason(value: bytes):
    rejects = decode(0, [0], [NOW_MS], [value]).rejects
    (refusal,) = judged([value], "visitor", True, NOW_MS).refusals
    assert (refusal.reason, refusal.detail) == (rejects["reason"][0], rejects["detail"][0])


def test_read_and_decode_agree_whatever_stands_beside():
    values = [encode(Event(**event(1))), b"{", b'{"a":"\\u0000"}', None, b"x" * (MAX_VALUE_BYTES + 1)]
    rejects = decode(0, range(len(values)), [NOW_MS] * len(values), values).rejects
    assert [each for each in read(values, NOW_MS) if isinstance(each, Reject)] == list(
        zip(rejects["reason"], rejects["detail"], strict=True)
    )
    assert read([], NOW_MS) == []


def test_who_names_no_visitor_gets_the_pseudonym_that_logs_give(collector: Collector):
    with_more = event(2, visitor_id=None, more={"deep": [1]})
    assert collector.post(encoded(event(1, visitor_id=None), with_more, event(3)), X_Forwarded_For="203.0.113.7")[0] == 202
    pseudonym = PSEUDONYMS.of("203.0.113.7")
    assert [(key, value["visitor_id"]) for key, value in collector.sent] == [(pseudonym, pseudonym)] * 2 + [("visitor",) * 2]
    assert collector.sent[1][1]["more"] == {"deep": [1]}
    # In wire form, which all layers read fastest.
    assert collector.producer.values[0] == encode(Event(**event(1, visitor_id=pseudonym)))


@pytest.mark.parametrize("header", ["DNT", "Sec_GPC"])
def test_who_asks_not_to_be_followed_is_nobody(collector: Collector, header: str):
    sent = encoded(event(1, visitor_id=None), event(2, visitor_id="me", cookie="me"))
    assert collector.post(sent, **{header: "1"}, X_Forwarded_For="203.0.113.7") == (202, {"accepted": 2})
    assert collector.sent == [(f"id-{number}", event(number, visitor_id=NOT_FOLLOWED)) for number in (1, 2)]
    assert collector.post(encoded(event(3)), **{header: "0"})[0] == 202
    assert collector.sent[2] == ("visitor", event(3))


@pytest.mark.parametrize(
    ("forwarded", "proxies", "client"),
    [
        ([], 0, "198.51.100.9"),
        ([], 1, "198.51.100.9"),
        (["203.0.113.7"], 0, "198.51.100.9"),
        (["203.0.113.7"], 1, "203.0.113.7"),
        # The first was written by the client itself.
        (["192.0.2.1", "203.0.113.7"], 1, "203.0.113.7"),
        (["192.0.2.1,203.0.113.7", "10.0.0.2"], 2, "203.0.113.7"),
        (["203.0.113.7"], 2, "203.0.113.7"),
        (["[2001:DB8::1]:4711"], 1, "2001:db8::1"),
        (["unknown"], 1, None),
        ([""], 1, None),
    ],
)
def test_the_client_is_whom_the_farthest_proxy_of_ours_heard(forwarded: list[str], proxies: int, client: str | None):
    assert client_of(forwarded, "198.51.100.9", proxies) == client


def test_a_client_of_whom_no_address_is_known_is_nobody(collector: Collector):
    assert collector.post(encoded(event(visitor_id=None)), X_Forwarded_For="unknown")[0] == 202
    assert collector.sent[0][0] == NOT_FOLLOWED


def test_a_site_that_sends_too_fast_is_told_when_to_come_back():
    with served(replace(Settings(), collector_rate=10)) as collector:
        assert collector.post(encoded(*map(event, range(15))))[0] == 202
        answer = collector.client.post("/events", content=encoded(*map(event, range(10))))
        assert (answer.status_code, answer.headers["retry-after"], answer.json()["reason"]) == (429, "1", "rate")
        assert collector.post(encoded(event(site="other")))[0] == 202
        # One site too many, and nothing is taken from any.
        assert collector.post(encoded(*map(event, range(10)), event(site="third")))[0] == 429
        collector.clock[0] += 0.5
        assert collector.post(encoded(*map(event, range(10))))[0] == 202
        assert len(collector.sent) == 26


def test_a_request_with_more_events_than_a_bucket_holds_goes_and_is_owed_for():
    with served(replace(Settings(), collector_rate=10)) as collector:
        assert collector.post(encoded(*map(event, range(50))))[0] == 202
        assert collector.client.post("/events", content=encoded(event())).headers["retry-after"] == "4"
    with served(replace(Settings(), collector_rate=0)) as collector:
        assert [collector.post(encoded(*map(event, range(1_000))))[0] for _ in range(3)] == [202] * 3


def test_what_kafka_did_not_take_is_said_and_nothing_waits_while_it_is_away():
    producer = MemoryProducer(refuse=True)
    with served(replace(Settings(), collector_rate=10), producer) as collector:
        for said in [*["not all of it is acknowledged"] * 3, "nothing was sent"]:
            answer = collector.client.post("/events", content=encoded(*map(event, range(20))))
            # Were it charged for what did not go, it would be 429.
            assert (answer.status_code, answer.json()["reason"], answer.headers["retry-after"]) == (503, "kafka", "1")
            assert answer.json()["detail"] == f"{said}: Local: Message timed out; send it again"
        assert len(producer.records) == 60
        assert collector.client.get("/readyz").status_code == 503
        assert collector.client.get("/healthz").status_code == 200


def test_a_request_of_which_one_record_is_refused_is_not_acknowledged():
    class OneRefused(MemoryProducer):
        def produce(self, topic: str, value: bytes, key: Any, partition: int, on_delivery: Any) -> None:
            self._refuse = b"id-1" in value
            super().produce(topic, value, key, partition, on_delivery)
            self.poll(0)

    with served(producer=OneRefused(report_all=True)) as collector:
        assert collector.post(encoded(*map(event, range(3))))[0] == 503


def test_a_full_queue_is_unavailable():
    with served(producer=MemoryProducer(room=2, report_all=True)) as collector:
        assert collector.post(encoded(*map(event, range(3))))[0] == 503


def test_pages_of_other_origins_may_send_if_they_are_named():
    settings = replace(Settings(), collector_origins="https://shop.example.com, https://www.example.com")
    with served(settings) as collector:
        for origin, status in (
            ("https://www.example.com", 202),
            ("https://example.com", 403),
            ("null", 403),
            ("http://testserver", 202),  # the collector's own page
        ):
            answer = collector.client.post("/events", content=encoded(event()), headers={"Origin": origin})
            assert answer.status_code == status, origin
            allowed = answer.headers.get("access-control-allow-origin")
            assert allowed == (origin if "example" in origin and status == 202 else None)
        asked = {"Origin": "https://shop.example.com", "Access-Control-Request-Method": "POST"}
        answer = collector.client.options("/events", headers=asked)
        assert answer.headers["access-control-allow-origin"] == "https://shop.example.com"
        assert collector.client.post("/events", content=b"", headers=asked).headers["access-control-expose-headers"]
    with served(replace(Settings(), collector_origins="*")) as collector:
        assert collector.post(encoded(event()), Origin="https://anywhere.example")[0] == 202


def test_other_methods_and_paths_are_none_of_ours(collector: Collector):
    assert collector.client.get("/events").status_code == 405
    assert collector.client.get("/static/page.html").status_code == 404

"""What `make servers` compares, without a server: a log that is right passes, and each planted wrong one is red."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.servers import facts
from tests.servers.compare import known
from tests.servers.container import Ran
from tests.servers.facts import Fact
from tests.servers.inside.exchange import Answer, ask_all, encoded
from tests.servers.inside.requests import REQUESTS, SLOW, Request
from tests.servers.inside.servers import SERVERS
from tests.servers.judge import Judgement, judge
from tests.servers.known import KNOWN, Known
from tests.servers.report import HEAD, row, with_rows

ROOT = Path(__file__).resolve().parents[2]
BEGAN_S = datetime(2026, 11, 29, 12, 0, 0, tzinfo=UTC).timestamp()


def answer_to(request: Request) -> Answer:
    size = 0 if request.method == "HEAD" else 476
    return Answer(404 if "missing" in request.target else 200, 120, size, size, 300.0 if request.name == SLOW else 5.0)


ASKED = [(request, answer_to(request)) for request in REQUESTS]


def line_of(request: Request, answer: Answer, time: str = "29/Nov/2026:08:30:01 -0330") -> str:
    """Combined Log Format as a server writes it that escapes nothing."""
    return (
        f'{request.client} - - [{time}] "{request.method} {request.target} {request.protocol}" {answer.status} '
        f'{answer.body_bytes} "{request.referrer or "-"}" "{request.user_agent or "-"}"'
    )


LINES = [line_of(request, answer) for request, answer in ASKED]


def judged(lines: list[str], is_known: Known = Known()) -> Judgement:  # noqa: B008 it is frozen
    ran = Ran(
        "1.0",
        BEGAN_S,
        BEGAN_S + 2,
        "".join(f"{line}\n" for line in lines).encode(),
        {it.name: answer for it, answer in ASKED},
    )
    return judge("a server", "America/St_Johns", ran, is_known)


def test_a_log_of_what_the_client_knows_passes_whatever_its_order():
    it = judged([f"{line} 0.3" for line in LINES[::-1]])
    assert (it.wrong, it.passed) == ((), True)
    assert it.counted == it.client
    assert it.counted is not None
    assert (it.counted.views, it.counted.visitors, it.lines) == (len(REQUESTS) - 1, 3, len(REQUESTS))


def _at(name: str) -> int:
    return next(number for number, request in enumerate(REQUESTS) if request.name == name)


def _changed(name: str, before: str, after: str) -> Callable[[list[str]], list[str]]:
    def change(lines: list[str]) -> list[str]:
        at = _at(name)
        assert before in lines[at]
        return [*lines[:at], lines[at].replace(before, after, 1), *lines[at + 1 :]]

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[1:], "not counted: View(site='site.test', page='/'"),
        (lambda lines: [*lines, lines[0]], "nobody asked, and counted: View(site='site.test', page='/'"),
        (_changed("not found", " 404 ", " 403 "), "/missing.html: status 404 counted as 403"),
        (_changed("a page", " 476 ", " 596 "), "/: bytes_sent 476 counted as 596"),
        (_changed("another client", "127.0.0.2", "127.0.0.1"), "client '127.0.0.2' counted as '127.0.0.1'"),
        (_changed("IPv6", "::1", "::2"), "client '::1' counted as "),
        (_changed("an encoded é", "%C3%A9", "é"), "page '/caf%C3%A9.html' counted as '/café.html'"),
        (_changed("a query", "from?x=1", "from"), "referrer 'https://example.org/from?x=1' counted as"),
        (
            _changed("quotes in the agent", 'a "quoted"', r"a \"quoted\""),
            "user_agent 'Agent/1.0 (a \"quoted\" word)' counted as",
        ),
        (_changed("OPTIONS *", "OPTIONS *", "OPTIONS /*"), "nobody asked, and counted: View(site='site.test', page='/*'"),
        (_changed("a page", "-0330", "-0230"), "a time is -3599 s from the first request, not +0 s"),
        (_changed("a page", '"GET / ', "GET / "), "lines do not parse: {'not_a_log_line': 1}"),
        (
            lambda lines: [f"{line} 12.5" for line in lines],
            "a duration is 12500.0 ms, and no answer took longer than 300 ms",
        ),
        (
            lambda lines: [f"{line} 0.01" for line in lines],
            "no duration is longer than 10.0 ms, and one answer took more than 250",
        ),
        (lambda lines: [line.partition(" [")[0] for line in lines], "its log is refused: "),
    ],
    ids=lambda it: it[:40] if isinstance(it, str) else "",
)
def test_a_planted_wrong_log_is_red(change: Callable[[list[str]], list[str]], told: str):
    wrong = judged(change(LINES)).wrong
    assert any(told in it for it in wrong), wrong


def test_a_fact_explains_exactly_what_it_says():
    slashes = [line.replace(" //page", " /page") for line in LINES]
    assert any("//page.html" in it for it in judged(slashes).wrong)
    assert judged(slashes, Known((facts.ONE_SLASH,))).passed
    assert judged(LINES, Known((facts.ONE_SLASH,))).wrong == ("/page.html: page '/page.html' counted as '//page.html'",)
    assert judged(LINES, Known((facts.page_as("/nowhere", "/", "a fact of nothing"),))).wrong == (
        "it is no longer so: a fact of nothing",
    )


@pytest.mark.parametrize("fact", [it for it in vars(facts).values() if isinstance(it, Fact)], ids=lambda it: it.text[:30])
def test_each_fact_changes_some_view_and_not_all(fact: Fact):
    answers = [replace(answer, status=304) if request.name == "not modified" else answer for request, answer in ASKED]
    answers = [
        replace(answer, sent_bytes=500) if it.name == "an answer in chunks" else answer
        for (it, _), answer in zip(ASKED, answers, strict=True)
    ]
    asked = [(request, answer) for (request, _), answer in zip(ASKED, answers, strict=True) if request.is_page]
    views = known(asked, has_hosts=False)
    changed = [fact.change(view, *it) != view for view, it in zip(views, asked, strict=True)]
    assert any(changed)
    assert not all(changed)


def test_what_is_known_as_refused_or_unfit_must_be_so():
    no_time = [f'{line.partition(" - - ")[0]}:443 - "GET / HTTP/1.1" 200' for line in LINES]
    assert judged(no_time, Known(refused="its lines have no time")).passed
    assert judged(no_time).wrong[0].startswith("its log is refused: it cannot be counted: its lines have no time")
    assert "its log was refused: no time" in judged(LINES, Known(refused="no time")).wrong[0]
    assert judged(["no line of a log", *LINES], Known(unfit="a banner")).passed
    assert judged(["* Listening on http://127.0.0.1:8080", *LINES]).passed
    assert judged(LINES, Known(unfit="a banner")).wrong == ("it is no longer so: a banner",)


def test_the_summers_offset_in_winter_is_an_hour():
    # In Newfoundland winter is -03:30; a server that writes the summer's -02:30 beside winter's clock is an hour early.
    early = [line.replace("-0330", "-0230") for line in LINES]
    assert any("a time is -3599 s from the first request, not +0 s" in it for it in judged(early).wrong)
    assert judged(early, Known(summer_all_year=True)).passed


def test_what_is_known_is_of_servers_and_their_table_has_them_all():
    names = [server.name for server in SERVERS]
    assert len(set(names)) == len(names) > 20
    assert set(KNOWN) <= set(names)
    conf = ROOT / "tests" / "servers" / "inside" / "conf"
    for server in SERVERS:
        assert not server.conf or ("@LOG@" in (conf / server.conf).read_text(encoding="utf-8")) == bool(server.log), (
            server.name
        )
    text = (ROOT / "docs" / "servers.md").read_text(encoding="utf-8")
    rows = [
        line.split(" | ")[0].removeprefix("| ") for line in text.split(HEAD)[1].splitlines()[1:] if line.startswith("| ")
    ]
    assert rows == names


def test_a_row_says_what_differs_and_a_document_gets_it_between_its_marks():
    right, refused = judged(LINES), judged(["no log"] * 3)
    assert row(right) == "| a server | 1.0 | combined | 42 | 41 | 3 | 18,564 | 22 | nothing |"
    assert row(refused).startswith(
        "| a server | 1.0 | refused: no line of the first 3 is of a format that is known | 3 |  |  |  |  |  |"
    )
    text = "before\n<!-- made by `make servers` -->\n| gone | 1 |\n<!-- end of what is made -->\nafter\n"
    names = ["another", "a server"]
    made = with_rows(text, [right], names)
    assert made.splitlines() == [
        "before",
        "<!-- made by `make servers` -->",
        *HEAD.splitlines(),
        row(right),
        *text.splitlines()[-2:],
    ]
    assert with_rows(made, [], names) == made
    again = with_rows(made, [replace(right, server="another"), replace(right, version="2.0")], names)
    assert [line.split(" | ")[:2] for line in again.splitlines()[4:6]] == [["| another", "1.0"], ["| a server", "2.0"]]
    with pytest.raises(ValueError, match="no <!-- made"):
        with_rows("no marks", [right], names)


@contextmanager
def _answering(*answers: bytes) -> Iterator[int]:
    """A server that takes one connection and says these things, whatever it is asked; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                for answer in answers:
                    connection.recv(65_536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("method", "said", "sizes"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", (200, 38, 5, 5)),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", (200, 38, 0, 0)),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", (304, 48, 0, 0)),
        (
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nA: b\r\n\r\n",
            (200, 47, 6, 31),
        ),
        ("GET", b"HTTP/1.0 200 OK\r\n\r\nuntil the end", (200, 19, 13, 13)),
    ],
    ids=["length", "HEAD", "304", "chunks", "until closed"],
)
def test_the_client_knows_what_came_back_to_the_byte(method: str, said: bytes, sizes: tuple[int, ...]):
    with _answering(said) as port:
        ((_, answer),) = ask_all([Request("one", method=method)], port)
    assert answer is not None
    assert (answer.status, answer.head_bytes, answer.body_bytes, answer.sent_bytes) == sizes


def test_a_connection_that_breaks_off_leaves_requests_without_an_answer():
    requests = [Request("one", alike="kept"), Request("two", alike="kept")]
    with _answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port:
        (_, first), (_, second) = ask_all(requests, port)
    assert first is not None
    assert (first.status, second) == (200, None)


def test_requests_are_valid_http():
    for request in REQUESTS:
        wire = encoded(request, close=True)
        head, _, body = wire.partition(b"\r\n\r\n")
        start, *headers = head.split(b"\r\n")
        assert start.isascii()
        assert start.count(b" ") == 2
        names = [header.partition(b":")[0].lower() for header in headers]
        assert len(set(names)) == len(names)
        assert (b"host" in names) == (request.protocol == "HTTP/1.1")
        assert body == request.body

"""The page's answers: what is sent to whom, what is refused, and what it says is wrong; no engine is needed for that."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from contract.errors import EngineUnavailable, QueryRefused
from contract.settings import Settings
from serving.page import board as board_module
from serving.page.app import STATIC, page
from serving.page.board import MOST_SCOPES, MOST_VIEWERS, Board, Crowded
from serving.page.cookbook import Question, questions
from serving.page.problems import of_counting, of_ledger, of_runs, of_servers, of_status
from serving.page.scope import Scope
from serving.page.servers import ask_all, servers, unanswered
from serving.page.source import AWAY_S, Source
from serving.page.sql_box import MOST_AT_ONCE, MOST_CHARACTERS, Busy, SqlBox
from serving.status import Health, OpenTransaction, Status
from tests.fixtures.status import SERVERS

ALL, SHOP = Scope("", "1h"), Scope("shop", "1h")
OUR_HOST = "127.0.0.1:8082"


class Box(SqlBox):
    """Answers without a database."""

    def answer(self, statement: str) -> dict[str, Any]:
        if statement == "refused":
            raise QueryRefused("no such column")
        if statement == "away":
            raise EngineUnavailable("TimescaleDB is away")
        if statement == "busy":
            raise Busy
        return {"columns": ["one"], "rows": [[statement]]}


@pytest.fixture
def board() -> Board:
    return Board(lambda: 1_000.0)


@pytest.fixture
def client(board: Board) -> Iterator[TestClient]:
    @asynccontextmanager
    async def watching() -> AsyncIterator[None]:
        yield

    app = page(board, Box(Settings()), [Question("1. How many?", "select 1\n", "1\n")], watching)
    with TestClient(app, base_url=f"http://{OUR_HOST}") as client:
        yield client


def ask(client: TestClient, statement: str = "select 1", **headers: str) -> Any:
    sent = {"Origin": f"http://{OUR_HOST}", "Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return client.post("/sql", content=json.dumps({"sql": statement}), headers=sent)


def told(viewer: board_module.Viewer) -> list[dict[str, Any]]:
    """The parts that a viewer was told, in order."""
    found = []
    while not viewer.messages.empty():
        text = viewer.messages.get_nowait()
        assert text is not None
        found.append(json.loads(text.decode().partition("data: ")[2]))
    return found


def test_whoever_comes_is_told_what_is_known_and_then_what_becomes_known(board: Board):
    board.post("ledger", [1])
    with board.viewer(ALL) as first:
        board.post("series", "of all", ALL)
        with board.viewer(SHOP) as second:
            board.post("series", "of the shop", SHOP)
            board.post("ledger", [2])
            assert [(part["name"], part["data"]) for part in told(second)] == [
                ("ledger", [1]),
                ("series", "of the shop"),
                ("ledger", [2]),
            ]
        assert [part["data"] for part in told(first)] == [[1], "of all", [2]]
        with board.viewer(ALL) as third:
            assert [part["data"] for part in told(third)] == [[2], "of all"]


def test_what_is_sent_to_many_is_made_once(board: Board):
    with ExitStack() as stack:
        viewers = [stack.enter_context(board.viewer(ALL)) for _ in range(20)]
        board.post("series", list(range(100)), ALL)
        texts = [viewer.messages.get_nowait() for viewer in viewers]
        assert len({id(text) for text in texts}) == 1
        # And it is asked for once.
        assert board.scopes == [ALL]


def test_no_answer_leaves_what_was_known_with_its_time(board: Board):
    with board.viewer(ALL) as viewer:
        board.post("pages", ["/"], ALL)
        board.fail("pages", "took too long", ALL)
        board.fail("pages", "took too long", ALL)
        board.post("pages", ["/new"], ALL)
        known, failed, again = told(viewer)
    assert known["failed_since"] is None
    assert (failed["data"], failed["at"], failed["error"], failed["failed_since"]) == (
        ["/"],
        1_000.0,
        "took too long",
        1_000.0,
    )
    assert (again["data"], again["error"], again["failed_since"]) == (["/new"], None, None)


def test_a_scope_that_nobody_looks_at_is_not_asked_for_and_forgotten(board: Board):
    with board.viewer(SHOP):
        board.post("series", "of the shop", SHOP)
        assert board.scopes == [SHOP]
    assert board.scopes == []
    # The answer to a question that was under way.
    board.post("series", "late", SHOP)
    board.fail("pages", "late", SHOP)
    with board.viewer(SHOP) as viewer:
        assert told(viewer) == []


def test_who_is_too_far_behind_is_let_go_and_the_others_are_told(board: Board):
    with board.viewer(ALL) as slow, board.viewer(ALL) as quick:
        for number in range(300):
            board.pulse(number)
            quick.messages.get_nowait()
        assert slow.messages.get_nowait() is None
        assert board.viewers == 1


def test_no_more_look_than_one_process_serves(board: Board):
    with ExitStack() as stack:
        for number in range(MOST_SCOPES):
            stack.enter_context(board.viewer(Scope(f"site-{number}", "1h")))
        with pytest.raises(Crowded), board.viewer(SHOP):
            pass
        for _ in range(MOST_VIEWERS - MOST_SCOPES):
            stack.enter_context(board.viewer(Scope("site-0", "1h")))
        with pytest.raises(Crowded), board.viewer(Scope("site-0", "1h")):
            pass


def test_a_stream_begins_with_what_is_known_and_ends_with_the_server(board: Board):
    async def events() -> list[bytes]:
        @asynccontextmanager
        async def watching() -> AsyncIterator[None]:
            yield

        app = page(board, Box(Settings()), [], watching)
        sent: list[bytes] = []
        board.post("ledger", [1])
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/stream",
            "raw_path": b"/stream",
            "root_path": "",
            "query_string": b"site=shop&range=6h",
            "headers": [(b"host", b"localhost:8082")],
            "app": app,
        }
        app.state.board = board

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message.get("body", b""))

        serving = asyncio.create_task(app(scope, receive, send))
        while sum(b"event:" in text for text in sent) < 2:
            await asyncio.sleep(0)
        assert board.scopes == [Scope("shop", "6h")]
        board.close()
        await serving
        return sent

    sent = [text for text in asyncio.run(events()) if text]
    assert sent[0].startswith(b'event: scope\ndata: {"site":"shop","range":"6h"}')
    assert b'"name":"ledger"' in sent[1]
    assert board.viewers == 0


def test_a_scope_that_is_none_is_refused(client: TestClient):
    answer = client.get("/stream?range=2h")
    assert (answer.status_code, answer.json()["reason"]) == (400, "scope")


def test_the_sql_box_answers_its_own_page(client: TestClient):
    assert ask(client).json() == {"columns": ["one"], "rows": [["select 1"]]}
    assert ask(client, Sec_Fetch_Site="same-origin").status_code == 200
    # Who is no browser names no origin.
    plain = client.post("/sql", content=b'{"sql": "x"}', headers={"Content-Type": "application/json"})
    assert plain.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://x.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Content_Type": "text/plain"},
    ],
)
def test_no_other_page_asks(client: TestClient, headers: dict[str, str]):
    assert ask(client, **headers).status_code == 403


@pytest.mark.parametrize("host", ["x.example", "x.example:8082", "127.0.0.1.x.example", "", "["])
@pytest.mark.parametrize("place", ["/", "/stream", "/about"])
def test_no_other_name_is_ours(client: TestClient, host: str, place: str):
    assert client.get(place, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8082", "127.0.0.1:8082", "[::1]:8082", "localhost"])
def test_the_loopback_is_ours(client: TestClient, host: str):
    assert client.get("/about", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(("statement", "status"), [("away", 503), ("busy", 429)])
def test_what_the_sql_box_cannot_answer_it_says(client: TestClient, statement: str, status: int):
    answer = ask(client, statement)
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert ask(client, "refused").json() == {"refused": "no such column"}


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"sql": 1}', b"\xff"])
def test_what_is_no_question_is_refused(client: TestClient, body: bytes):
    assert client.post("/sql", content=body, headers={"Content-Type": "application/json"}).status_code == 400
    assert client.post("/sql", content=b" " * 300_000, headers={"Content-Type": "application/json"}).status_code == 413


def test_only_so_many_statements_run_at_once_and_a_place_is_given_back():
    box = SqlBox(Settings(database_host="127.0.0.1", database_port=1, secrets_dir=str(Path(__file__).parent)))
    for _ in range(MOST_AT_ONCE + 1):
        # It has no password, so it does not come further; the place is free again.
        with pytest.raises(Exception, match="secret"):
            box.answer("select 1")
    for _ in range(MOST_AT_ONCE):
        box._places.acquire()
    with pytest.raises(Busy):
        box.answer("select 1")
    with pytest.raises(QueryRefused, match="characters"):
        box.answer("x" * (MOST_CHARACTERS + 1))


def test_files_are_served_with_a_policy_that_lets_nothing_in_from_elsewhere(client: TestClient):
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert client.get("/", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    for name in ("style.css", "js/main.js", "icon.svg"):
        assert client.get(f"/{name}").status_code == 200
    assert client.get("/../app.py").status_code == 404


def test_the_page_names_no_address_but_its_own():
    for file in [*STATIC.glob("*.*"), *STATIC.glob("js/*.js")]:
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"^\s*//.*$|\s// .*$", "", text, flags=re.MULTILINE), file.name
        # The policy would refuse them.
        assert " style=" not in text, file.name
        assert "innerHTML" not in text, file.name
        assert not re.search(r"<script>|\son[a-z]+=", text), file.name


def test_every_part_that_is_told_has_a_place_on_the_page():
    asked = (STATIC.parent / "asked.py").read_text(encoding="utf-8")
    told = set(re.findall(r'Question\("(\w+)"', asked)) | {
        "tail",
        "budgets",
        "servers",
        "problems",
        "lag",
        "freshness",
        "outages",
    }
    main = (STATIC / "js" / "main.js").read_text(encoding="utf-8")
    shown = re.search(r"const showPart = \{(.+?)^\};", main, re.MULTILINE | re.DOTALL)
    assert shown
    assert set(re.findall(r"^  (\w+):", shown[1], re.MULTILINE)) == told


def test_questions_have_their_heading_and_their_answer():
    blocks = [f"```sql\nselect {number}\n```\n\n```text\n{number}\n```\n" for number in (1, 2)]
    text = "# SQL\n\n### 1. One?\n\n" + "\nand\n\n".join(blocks)
    assert questions(text) == [Question("1. One?", "select 1\n", "1\n"), Question("1. One? (2)", "select 2\n", "2\n")]


def status(**changed: Any) -> Status:
    health = [Health(name, "", True, "says so") for name in SERVERS]
    fields: dict[str, Any] = {
        "health": health,
        "positions": [],
        "open_transactions": [],
        "lost_positions": [],
        "archive_gaps": [],
        "unread": [],
        "last_run": None,
        "ledger": [],
        "addresses": {},
    }
    return Status(**fields | changed)


def test_a_server_that_is_away_is_named_with_what_that_means_and_what_helps():
    every = servers(Settings())
    answers = {server.name: None for server in every} | {"speed layer": "connection refused"}
    rows, problems = of_servers(every, answers, status())
    assert [row["name"] for row in rows if not row["up"]] == ["speed layer"]
    (problem,) = problems
    assert problem.what == "speed layer: connection refused"
    assert "counted later" in problem.means
    assert list(problem.commands) == ["make up", "make logs S=supervisor"]


def test_a_server_that_takes_connections_and_answers_nonsense_is_down():
    every = servers(Settings())
    sick = [Health("Spark master", "", False, "is STANDBY")]
    rows, problems = of_servers(every, {server.name: None for server in every}, status(health=sick))
    assert [(row["name"], row["detail"]) for row in rows if row["up"] is False] == [("Spark master", "is STANDBY")]
    assert len(problems) == 1
    # And what nobody has asked is neither up nor down.
    rows, problems = of_servers(every, {}, None)
    assert {row["up"] for row in rows} == {None}
    assert problems == []


def test_who_listens_answers_and_who_does_not_says_why():
    async def answers() -> tuple[dict[str, str | None], dict[str, str | None]]:
        listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        (one, *_) = servers(Settings(kafka_bootstrap=f"127.0.0.1:{port}"))
        there = await ask_all((one,))
        listening.close()
        await listening.wait_closed()
        return there, await ask_all((one,))

    there, gone = asyncio.run(answers())
    assert there == {"Kafka": None}
    assert gone["Kafka"]
    assert "refused" in gone["Kafka"] or "connect" in gone["Kafka"]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n{}", None),
        (b'HTTP/1.1 503 x\r\nA: b\r\n\r\n{"status":"not ready","detail":"HDFS is away"}', "not ready: HDFS is away"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n<html>", "not ready: 503 Service Unavailable"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}", "not ready: 503 Service Unavailable"),
        (b"", "not ready: no answer"),
    ],
)
def test_who_takes_connections_and_is_not_ready_says_so(sent: bytes, said: str | None):
    async def answer() -> str | None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(sent)
            writer.close()

        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            collector = next(server for server in servers(Settings()) if server.path)
            return await unanswered(replace(collector, host="127.0.0.1", port=port))

    assert asyncio.run(answer()) == said


def test_what_status_knows_is_said_with_its_command():
    transaction = OpenTransaction(0, 5, 3, datetime(2026, 3, 1, tzinfo=UTC))
    known = status(
        open_transactions=[transaction],
        unread=["nobody reads partition 2 yet"],
        lost_positions=["gone; `make resume-topic`"],
    )
    found = {problem.what: problem for problem in of_status(known, {0: 61.0, 1: 59.0})}
    assert [problem.grave for problem in found.values()] == [True, False, False, True]
    commands = [command for problem in found.values() for command in problem.commands]
    assert commands == ["make resume-topic", "make transactions", "make audit", "make logs S=archiver"]
    assert of_status(None, {}) == []


def test_a_speed_layer_that_does_not_come_along_is_said_once_its_reason_is_no_other_server():
    assert of_counting(3.0, True) == []
    assert of_counting(20.0, False) == []
    assert "20 s behind" in of_counting(20.0, True)[0].what


def test_a_ledger_that_does_not_add_up_and_a_run_that_failed_are_said():
    assert of_ledger([{"partition": 0, "difference": 0}]) == []
    assert "-2 records" in of_ledger([{"partition": 0, "difference": -2}])[0].what
    published = {"run_id": 1, "kind": "full", "state": "published", "error": None}
    failed = {"run_id": 2, "kind": "incremental", "state": "failed", "error": "no executor"}
    running = {"run_id": 3, "kind": "full", "state": "running", "error": None}
    assert "run 2 failed: no executor" in of_runs([running, failed, published])[0].what
    assert of_runs([published, failed]) == []
    assert of_runs([]) == []


def test_who_says_nothing_for_long_is_away_even_if_nothing_broke():
    source = Source()
    assert source.why_away(0) == "no answer"
    source.answered(1_000)
    assert source.why_away(1_000 + AWAY_S) is None
    assert source.why_away(1_001 + AWAY_S) == "no answer since 00:16:40 UTC"
    source.error = "connection refused"
    assert source.why_away(1_001) == "connection refused"
    source.answered(1_002)
    assert source.why_away(1_002) is None

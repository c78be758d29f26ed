"""What `make clients` says, without a client: a value that is right is its type, and each planted wrong one shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.clients.clients import CLIENTS, Client
from tests.clients.questions import QUESTIONS
from tests.clients.report import HEAD, Arrived, row, rows_of, with_table

ROOT = Path(__file__).resolve().parents[2]
INSIDE = ROOT / "tests" / "clients" / "inside"
PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
TRUTH = {question.kind: "7" for question in QUESTIONS} | {"double precision": "12.5", "null": "null"}
SOME = Client("some", ("some",), "a word")


def cells(**answers: dict[str, str]) -> dict[str, str]:
    """By kind, what the table has of a client that is right but for these."""
    right = {question.kind: {"type": "it", "text": TRUTH[question.kind]} for question in QUESTIONS}
    line = row(SOME, Arrived("1.0", right | answers), TRUTH)
    name, version, *rest, word = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    assert (name, version, word) == ("some", "1.0", "a word")
    return dict(zip(TRUTH, rest, strict=True))


def test_what_is_right_is_shown_as_its_type():
    assert set(cells().values()) == {"`it`"}
    for kind, text in (("double precision", "12.50"), ("numeric", "7.000")):
        assert cells(**{kind: {"type": "f", "text": text}})[kind] == "`f`"
        assert cells(**{kind: {"type": "f", "text": "null"}})[kind] == "`f`: `null`"


@pytest.mark.parametrize(
    ("answer", "cell"),
    [
        ({"type": "number", "text": "8"}, "`number`: `8`"),
        ({"type": "string", "text": "7.0"}, "`string`: `7.0`"),
        ({"error": "no\n  type `hll` | here"}, "refused: `no type 'hll' / here`"),
        ({"error": "x" * 100}, f"refused: `{'x' * 59}…`"),
    ],
)
def test_what_is_wrong_is_shown_as_it_came(answer: dict[str, str], cell: str):
    assert cells(bigint=answer)["bigint"] == cell


def test_a_table_is_written_between_its_marks_and_read_again():
    page = "before\n<!-- made by `make clients` -->\nold\n<!-- end of what is made -->\nafter\n"
    written = with_table(page, ["| a | 1 |", "| b | 2 |"])
    assert written == page.replace("old", f"{HEAD}\n| a | 1 |\n| b | 2 |")
    assert rows_of(written) == {"a": "| a | 1 |", "b": "| b | 2 |"}
    for broken in ("", page.replace("<!-- end of what is made -->", "")):
        with pytest.raises(ValueError, match="made by `make clients`"):
            rows_of(broken)
        with pytest.raises(ValueError, match="made by `make clients`"):
            with_table(broken, [])


def test_the_page_has_every_client_and_says_of_each_what_is_said_here():
    rows = rows_of(PAGE)
    assert list(rows) == [client.name for client in CLIENTS]
    assert [client.name for client in CLIENTS if not rows[client.name].endswith(f" | {client.word} |")] == []
    pins = [*INSIDE.glob("*.txt"), INSIDE / "package.json", INSIDE / "pgx" / "go.mod"]
    pinned = "".join(path.read_text(encoding="utf-8") for path in pins)
    versions = [line.split(" | ")[1] for line in rows.values()]
    assert [version for version in versions if version not in pinned] == []

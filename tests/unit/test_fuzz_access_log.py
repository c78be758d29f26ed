"""Fuzzing of access logs: lines written from known fields, damaged lines, hostile lines, and files of any lines."""

from __future__ import annotations

import gzip
import io
import re
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import InputError
from contract.event import MAX_PAGE_LENGTH, MAX_VALUE_BYTES
from ingest.line_records import LineReader, Record
from ingest.lines import InputFile
from ingest.pieces import CUT_LINE_BYTES
from tests.fixtures.corpus import KAFKA_TIME_MS
from tests.fixtures.judges import by_decode, by_oracle
from tests.fixtures.log_corpus import COMBINED, COMMON, LINES, lines_in, log_lines

LOG = log_lines()
SOURCE = "access.log"
FAR = 1 << 22
LAST_DAY = 20260601
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def record_of(line: bytes, offset: int = 0) -> Record:
    record = LOG.record(SOURCE, offset, line)
    assert record is not None
    return record


def read_together(block: bytes) -> None:
    """Lines are read together as they are one by one, the same is noted of them, and what is sure is an event."""
    together, alone = log_lines(), log_lines()
    records = together.read_together(SOURCE, FAR, block)
    assert records == LineReader.read(alone, SOURCE, FAR, block)
    assert together.notes == alone.notes
    sure = [value for at, value in enumerate(records.values) if at not in records.unsure]
    assert all(isinstance(judgement, dict) for judgement in by_decode(sure, KAFKA_TIME_MS))


def escaped(text: str) -> str:
    """A text as Apache's ap_escape_logitem writes it within quotes."""
    plain = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
    return "".join(
        plain.get(c) or (c if c.isprintable() else "".join(f"\\x{byte:02x}" for byte in c.encode())) for c in text
    )


def clf_time(moment: datetime) -> str:
    return f"{moment:%d}/{MONTHS[moment.month - 1]}/{moment.year:04d}:{moment:%H:%M:%S} {moment:%z}"


printable = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
words = st.text(st.characters(exclude_categories=["Cs", "Zs", "Cc"]), min_size=1, max_size=40)
addresses = st.builds(IPv4Address, st.integers(0, 2**32 - 1)) | st.builds(IPv6Address, st.integers(0, 2**128 - 1))
host_names = st.from_regex(r"[a-z0-9_]([a-z0-9-]{0,9}\.){0,3}[a-z][a-z0-9]{0,9}", fullmatch=True)
zones = st.integers(-14 * 4, 14 * 4).map(lambda quarters: timezone(timedelta(minutes=15 * quarters)))
fields = st.fixed_dictionaries(
    {
        "client": addresses.map(str) | host_names,
        "user": st.just("-") | printable,
        "time": st.datetimes(datetime(1970, 1, 2), datetime(2026, 5, 16), timezones=zones).map(
            lambda it: it.replace(microsecond=0)
        ),
        "method": st.sampled_from(["GET", "POST", "M-SEARCH", "propfind", "X_Y"]),
        "target": words.map("/{}".format) | st.sampled_from(["/", "http://h/ä?\"'\\ b", "/[17/May/2015:12:05:03 +0200]"]),
        "protocol": st.sampled_from([" HTTP/1.0", " HTTP/2.0", "", " 1.1"]),
        "status": st.integers(100, 599),
        "size": st.none() | st.integers(0, 2**40),
        "combined": st.none() | st.tuples(st.none() | printable, st.none() | printable),
        "more": st.lists(printable, max_size=2),
        "duration_us": st.none() | st.integers(0, 86_400_000_000),
    }
).filter(lambda it: it["method"].isupper() or "HTTP" in it["protocol"])


def line_of(it: dict[str, Any]) -> str:
    line = f"{it['client']} - {escaped(it['user'])} [{clf_time(it['time'])}]"
    line += f' "{it["method"]} {escaped(it["target"])}{it["protocol"]}"'
    line += f" {it['status']} {'-' if it['size'] is None else it['size']}"
    if it["combined"]:
        quoted = [*("-" if text is None else escaped(text) for text in it["combined"]), *map(escaped, it["more"])]
        line += "".join(f' "{text}"' for text in quoted)
        line += "" if it["duration_us"] is None else f" {it['duration_us'] / 1e6:.6f}"
    return line


def event_of(it: dict[str, Any]) -> dict[str, Any]:
    referrer, user_agent = [None if text in (None, "-", "") else escaped(text) for text in it["combined"] or (None, None)]
    return {
        "event_time": it["time"],
        "site": "demo",
        "page": escaped(it["target"]),
        "status": it["status"],
        "bytes_sent": 0 if it["status"] in (204, 304) else it["size"] or 0,
        "duration_ms": None if it["duration_us"] is None or not it["combined"] else it["duration_us"] / 1_000,
        "referrer": referrer,
        "user_agent": user_agent,
    }


@given(fields, st.integers(0, 2**63))
def test_a_line_gives_back_the_fields_from_which_it_was_written(it: dict[str, Any], offset: int):
    key, value = record_of(line_of(it).encode(), offset)
    assert by_decode([value], KAFKA_TIME_MS) == [event_of(it) | {"event_id": f"access.log:{offset}", "visitor_id": key}]


@given(addresses | host_names, addresses | host_names)
def test_visitors_are_one_exactly_if_their_addresses_are(one: object, other: object):
    visitors = [record_of(COMMON.replace("198.51.100.7", str(client)).encode())[0] for client in (one, other)]
    assert None not in visitors
    assert (visitors[0] == visitors[1]) == (str(one) == str(other))


pieces = st.sampled_from(
    [
        b'"',
        b"\\",
        b'\\"',
        b" ",
        b"[",
        b"]",
        b"-",
        b"\0",
        b"\r",
        b"\xff",
        b"999",
        b' "x"',
        b" 0.5",
        b"",
        b"[17/May/2015:12:05:03 +0200] ",
    ]
)


@st.composite
def damaged_lines(draw: st.DrawFn) -> bytes:
    line = draw(fields.map(line_of).map(str.encode) | st.sampled_from([case.value or b"" for case in LINES]))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, min(len(line), 300)))
        line = line[:at] + draw(pieces) + line[at + draw(st.sampled_from([0, 1, 9, 10**6])) :]
    return line.replace(b"\n", b"")


@given(damaged_lines() | st.binary(max_size=99))
def test_a_line_becomes_an_event_or_a_record_that_says_why_it_is_none(line: bytes):
    record = LOG.record(SOURCE, 7, line)
    if record is None:
        assert not line.strip()
        return
    key, value = record
    (judgement,) = by_decode([value], KAFKA_TIME_MS)
    assert judgement == by_oracle(value, KAFKA_TIME_MS)
    if key is None:
        assert judgement in {"not_a_log_line", "not_a_request", "bad_time", "too_large"}
    elif isinstance(judgement, str):  # only for what a line can say and an event cannot
        assert judgement in {"out_of_range", "too_long", "nul_character", "bad_time", "too_far_ahead", "too_large"}
    else:
        assert (judgement["event_id"], judgement["visitor_id"]) == ("access.log:7", key)
        assert len(line) <= MAX_VALUE_BYTES


@given(fields.filter(lambda it: it["combined"] and it["combined"][1]), st.data())
def test_a_line_that_was_cut_inside_the_user_agent_still_counts(it: dict[str, Any], data: st.DataObject):
    it |= {"more": [], "duration_us": None}
    whole = line_of(it)[:-1]
    agent = escaped(it["combined"][1])
    cut = data.draw(st.integers(0, len(agent)))
    cut_line = whole[: len(whole) - cut]
    _, value = record_of(cut_line.encode())
    (judgement,) = by_decode([value], KAFKA_TIME_MS)
    assert isinstance(judgement, dict)
    assert {**event_of(it), "user_agent": None}.items() <= {**judgement, "user_agent": None}.items()
    assert agent.startswith((judgement["user_agent"] or "").rstrip())


plain = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'), max_size=40)
ascii_texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
ascii_words = st.from_regex(r"[!-~]{1,40}", fullmatch=True)
usual_lines = st.tuples(
    fields,
    st.fixed_dictionaries(
        {
            "user": st.just("-") | plain,
            # What servers write in place of a request begins with /ba too, so the loops leave it.
            "target": ascii_words.filter(lambda word: word[:2] != "ba").map("/{}".format)
            | st.sampled_from(["/a b", "/ HTTP/1.1", "/[17/May/2015:12:05:03 +0200]"]),
            "method": st.sampled_from(["GET", "HEAD", "OPTIONS", "propfind", "X_Y"]),
            "protocol": st.sampled_from([" HTTP/1.0", " HTTP/2.0"]),
            "size": st.none() | st.integers(0, 10**12 - 1),
            "combined": st.none() | st.tuples(st.none() | ascii_texts, st.none() | ascii_texts),
            "more": st.lists(ascii_texts, max_size=4),
            "duration_us": st.none(),
        }
    ),
    st.sampled_from(["", " -", " 0.000", " 0.120", " 007.001", " 86400.000"]),
).map(lambda parts: line_of(parts[0] | parts[1]) + (parts[2] if parts[1]["combined"] else ""))
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=9)


@given(st.lists(usual_lines, min_size=1, max_size=5), names, names, st.integers(0, 2**62))
def test_usual_lines_are_written_together_as_they_are_one_by_one(lines: list[str], source: str, site: str, offset: int):
    together, alone = log_lines(site), log_lines(site)
    block = "\n".join(lines).encode()
    assert together.usual_lines(source).read(offset, block, LAST_DAY).others == []
    assert together.read_together(source, offset, block) == LineReader.read(alone, source, offset, block)
    assert together.notes == alone.notes


@given(
    st.lists(
        st.tuples(usual_lines.map(str.encode) | damaged_lines(), st.sampled_from([b"\n", b"\r\n", b"\n\n"])), min_size=1
    )
)
def test_lines_that_are_read_together_are_what_they_are_one_by_one(parts: list[tuple[bytes, bytes]]):
    read_together(b"".join(line + end for line, end in parts))


@given(usual_lines.map(str.encode), st.integers(0, 400), st.integers(0, 255))
def test_a_line_with_one_byte_changed_is_what_it_is_by_itself(line: bytes, at: int, byte: int):
    before, after = line[: at % len(line)], line[at % len(line) :]
    for changed in (before + bytes([byte]) + after[1:], before + after[1:], before, before + bytes([byte]) + after):
        read_together(changed)


def test_the_corpus_is_read_together_as_one_by_one():
    read_together(b"\n".join(case.value or b"" for case in LINES))


def test_what_was_in_memory_before_ends_no_line(monkeypatch: pytest.MonkeyPatch):
    block = "\n".join((COMBINED, COMBINED.replace("198.51.100.7", "1.2.3.456"), COMBINED)).encode()
    monkeypatch.setattr(np, "empty", lambda shape, kind: np.full(shape, ord("\n"), kind))
    usual = LOG.usual_lines(SOURCE).read(0, block, LAST_DAY)
    assert [bool(value) for value in usual.values] == [True, False, True]
    assert [number for number, _, _ in usual.others] == [1]


@pytest.mark.parametrize(
    ("line", "is_sure"),
    [
        (COMBINED + " 86400.000", True),
        (COMBINED + " 86400.001", False),
        (COMMON.replace(" 512", " " + "9" * 12), True),
        (COMMON.replace(" 512", " 1" + "0" * 12), False),
        (COMMON.replace(" 200", " 599"), True),
        (COMMON.replace(" 200", " 600"), False),
        (COMMON.replace(" 200", " 099"), False),
        (COMMON.replace("/a?q=1", "/" * MAX_PAGE_LENGTH), True),
        (COMMON.replace("/a?q=1", "/" * (MAX_PAGE_LENGTH + 1)), False),
        (COMMON + f' "{"r" * MAX_PAGE_LENGTH}" "{"u" * MAX_PAGE_LENGTH}"', True),
        (COMMON + f' "{"r" * (MAX_PAGE_LENGTH + 1)}" "u"', False),
        (COMMON + f' "r" "{"u" * (MAX_PAGE_LENGTH + 1)}"', False),
        (COMMON + ' "' + r"\"" * (MAX_PAGE_LENGTH // 2) + '" "' + "\\" * MAX_PAGE_LENGTH + '"', True),
        (COMMON + r' "r" "u\"', False),
        (COMMON + ' "r" "\\é"', False),
        (COMMON.replace("- -", r"- a\b"), False),
        (COMMON.replace("17/May/2015:12:05:03 +0200", "01/Jan/1970:02:00:00 +0200"), True),
        (COMMON.replace("17/May/2015:12:05:03 +0200", "01/Jan/1970:01:59:59 +0200"), False),
        (COMMON.replace("17/May/2015:12:05:03 +0200", "02/Jun/2026:01:59:59 +0200"), True),
        (COMMON.replace("17/May/2015:12:05:03 +0200", "02/Jun/2026:02:00:00 +0200"), False),
    ],
)
def test_only_what_is_surely_an_event_is_read_together(line: str, is_sure: bool):
    usual = LOG.usual_lines(SOURCE).read(0, line.encode(), LAST_DAY)
    assert (usual.visitors != [None], usual.others == []) == (is_sure, is_sure)
    if is_sure:
        (judgement,) = by_decode(usual.values, int(datetime(2026, 6, 1, tzinfo=UTC).timestamp() * 1000))
        assert isinstance(judgement, dict)


PARTS = (
    "",
    "1.1.1.1 ",
    COMMON[:25],
    COMMON[:56],
    COMMON[:62],
    COMMON,
    COMMON + ' "',
    COMBINED[:-1],
    COMBINED,
    COMBINED + ' "',
)
ATOMS = (
    " ", "\t", '"', "\\", r"\"", r"\\", "[", "-", "a", "9", ".", '" ', ' "x"', ' "" ', "[17/May/2015:12:05:03 +0200] ",
    '[17/May/2015:12:05:03 +0200] "', '[17/May/2015:12:05:03 +0200] "G /" 200 1 "" "', "/ HTTP/1.1 ",
)  # fmt: skip


@pytest.mark.parametrize("part", PARTS, ids=range(len(PARTS)))
def test_hostile_lines_of_the_largest_size_cost_no_more_than_their_length(part: str):
    """No time is asserted, but one line read in quadratic time takes half a minute; formats/clf.py says why none is."""
    for atom in ATOMS:
        hostile = (part + atom * MAX_VALUE_BYTES)[: MAX_VALUE_BYTES - 9].encode()
        for line in (hostile, hostile + b'" garbage'):
            assert LOG.record(SOURCE, 0, line) is not None or not line.strip()


segments = st.lists(
    st.tuples(
        st.binary(max_size=20).map(lambda text: text.replace(b"\n", b"\r"))
        | st.builds(
            lambda byte, length, end: byte * length + end,
            st.sampled_from([b"x", b" ", b"\r", b"\0"]),
            st.sampled_from([1, MAX_VALUE_BYTES - 1, MAX_VALUE_BYTES, CUT_LINE_BYTES, CUT_LINE_BYTES + 1, 140_000]),
            st.sampled_from([b"", b"x", b"\r"]),
        ),
        st.sampled_from([b"\n", b"\r\n"]),
    ),
    min_size=1,
    max_size=5,
)


@given(segments, st.booleans(), st.lists(st.integers(0, 200_000), max_size=2))
def test_lines_and_offsets_are_those_of_the_text_however_it_is_stored(
    parts: list[tuple[bytes, bytes]], ends: bool, members: list[int]
):
    text = b"".join(line + end for line, end in parts)
    text = text if ends else text.removesuffix(b"\n")
    expected = []
    for hole_or_text in re.finditer(rb"[^\0]+", text):
        # A hole ends a line; what is behind it begins another.
        pieces, at = hole_or_text[0].split(b"\n"), hole_or_text.start()
        for piece in pieces if pieces[-1] else pieces[:-1]:
            expected.append((at, piece.removesuffix(b"\r")[:CUT_LINE_BYTES]))
            at += len(piece) + 1
    cuts = [0, *sorted(members), len(text)]
    packed = b"".join(gzip.compress(text[first:following], 1) for first, following in pairwise(cuts))
    for stored in (text, packed):
        found = read(stored)
        if not text or text[:2] in (b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff"):
            assert isinstance(found, str)
        else:
            assert found == expected


def read(stored: bytes) -> list[tuple[int, bytes]] | str:
    """The lines of a file with this content as it comes through a pipe, or why it is refused."""
    try:
        with InputFile(Path("log"), io.BytesIO(stored)) as file:  # type: ignore[arg-type]
            return lines_in(file)
    except InputError as refused:
        return str(refused)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda junk: b"\x1f\x8b\x08" + junk), st.integers(0, 80))
def test_any_file_gives_lines_or_says_in_one_line_why_not(junk: bytes, at: int):
    packed = gzip.compress(b"line\n" * 20)
    for stored in (junk, packed[:at] + junk, packed[:at] + junk + packed[at:]):
        found = read(stored)
        if isinstance(found, str):
            assert found.startswith("log ")
            assert "\n" not in found

"""The sample log is the same everywhere, has what real logs have, and its truth is what its lines say; README shows it."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median_low
from typing import Any

import pytest

from contract.errors import InputError
from ingest import sample_log as sample_log_module
from ingest.__main__ import main
from ingest.sample_log import ENDS, FORMATS, SampleLog
from ingest.sample_truth import Truth
from tests.fixtures.logs import awk_lines

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def lines_and_truth(**wanted: Any) -> tuple[list[str], Truth]:
    file = io.BytesIO()
    truth = SampleLog(**wanted).write_lines(file)
    return file.getvalue().decode("ascii").splitlines(), truth


def test_the_same_seed_gives_the_same_bytes_anywhere():
    # Whoever changes them changes README's answer and everybody's sample.
    digests = {}
    for log_format in FORMATS:
        file = io.BytesIO()
        SampleLog(format=log_format).write_lines(file)
        digests[log_format] = hashlib.sha256(file.getvalue()).hexdigest()[:16]
    assert digests == {
        "combined": "c84383b7f458b384",
        "common": "a727af45616dacf3",
        "timed": "989bc94ae5dea4ff",
        "vhost": "55498caf5c14d904",
    }


def test_another_seed_gives_another_log():
    assert lines_and_truth(lines=100)[0] != lines_and_truth(lines=100, seed=2)[0]


def test_lines_do_not_depend_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch):
    whole = lines_and_truth(lines=1_000, format="vhost", hosts=3)
    monkeypatch.setattr(sample_log_module, "_BLOCK_LINES", 64)
    assert lines_and_truth(lines=1_000, format="vhost", hosts=3) == whole


def test_the_truth_is_what_the_lines_say():
    """Read by a plain pattern, for the format that has everything but durations, and for the one that has them."""
    usual = (
        r'(\S+) - - \[(\d\d)/Jan/2026:\S+ \+0000\] "[A-Z]+ (\S+) HTTP/1.1" (\d{3}) (\d+|-) "[^"]*" ".*?(?:" (\d+\.\d{3}))?'
    )
    for wanted, pattern in (({"format": "vhost", "hosts": 3}, r"(\S+):80 " + usual), ({"format": "timed"}, r"()" + usual)):
        lines, truth = lines_and_truth(**wanted)
        groups: dict[tuple[str, ...], list[tuple[str, int, int, int | None]]] = defaultdict(list)
        not_requests = 0
        for line in lines:
            found = re.fullmatch(pattern, line)
            if found is None:
                not_requests += 1
                continue
            host, client, day, page, status, size, seconds = found.groups()
            duration_ms = round(float(seconds) * 1_000) if seconds else None
            size_bytes = 0 if size == "-" else int(size)
            groups[host or "demo", page, f"2026-01-{day}"].append((client, size_bytes, int(status) >= 500, duration_ms))
        assert (truth.lines, truth.not_requests) == (len(lines), not_requests)
        keyed = {(row["site"], row["page"], row["day"]): row for row in truth.by_page_and_day}
        assert {key: counts(views) for key, views in groups.items()} == {
            key: without_names(row) for key, row in keyed.items()
        }
        for rows, names in ((truth.by_site, ("site",)), (truth.by_day, ("site", "day")), (truth.by_page, ("site", "page"))):
            sums = defaultdict(list)
            for (site, page, day), views in groups.items():
                sums[tuple({"site": site, "page": page, "day": day}[name] for name in names)] += views
            assert {key: counts(views) for key, views in sums.items()} == {
                tuple(row[name] for name in names): without_names(row) for row in rows
            }
        assert counts([view for views in groups.values() for view in views]) == truth.total


def counts(views: list[tuple[str, int, int, int | None]]) -> dict[str, int | None]:
    known = [duration for *_, duration in views if duration is not None]
    return {
        "views": len(views),
        "visitors": len({client for client, *_ in views}),
        "bytes_sent": sum(size for _, size, _, _ in views),
        "errors": sum(error for _, _, error, _ in views),
        "p50_ms": median_low(known) if known else None,
    }


def without_names(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("site", "page", "day")}


def test_it_has_what_real_logs_have():
    lines, truth = lines_and_truth()
    seen = Counter[str]()
    latest = datetime.min.replace(tzinfo=UTC)
    for line in lines:
        moment = datetime.strptime(line.split("[")[1].split("]")[0], "%d/%b/%Y:%H:%M:%S %z")
        assert ENDS.timestamp() - 3 * 86_400 <= moment.timestamp() < ENDS.timestamp()
        assert (latest - moment).total_seconds() <= 60
        seen["out of order"] += moment < latest
        latest = max(latest, moment)
        seen["IPv6"] += line.startswith("2001:db8:")
        seen["IPv4"] += line.startswith("198.")
        seen["no size"] += '" 304 - ' in line or '"HEAD ' in line
        seen["HEAD"] += '"HEAD ' in line
        seen["304"] += '" 304 ' in line
        seen["bot"] += "Googlebot" in line
        seen["quotes in the user agent"] += r"\"Reader\"" in line
        seen["percent-encoded"] += "%C3%A9" in line
        seen["long target"] += any(len(field) > 700 for field in line.split()[6:7])
        seen["cut last field"] += not line.endswith('"')
        seen["no request"] += bool(re.search(r'\] "(-|\\x16.*|)" 4', line))
    assert 0.3 < seen["out of order"] / len(lines) < 0.7
    repeated = len(lines) - len(set(lines))
    assert repeated > 100
    assert seen["no request"] == truth.not_requests
    assert [name for name, count in seen.items() if count < 3] == []
    assert truth.total["errors"] > 50
    assert len(truth.by_page) > 500


def test_awk_agrees(sample_log: tuple[Path, Truth]):
    path, truth = sample_log
    by_awk = awk_lines(path)
    # Blanks take every line apart but those that are no request.
    assert len(by_awk) == truth.total["views"]
    assert sum(line.bytes_sent for line in by_awk) == truth.total["bytes_sent"]
    assert sum(line.status >= 500 for line in by_awk) == truth.total["errors"]
    assert len({line.client for line in by_awk}) == truth.total["visitors"]


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ({"lines": 0}, "LINES=0 is not a number from 1 to"),
        ({"days": 10_001}, "DAYS=10001 is not a number from 1 to 10000"),
        ({"seed": -1}, "SEED=-1 is not"),
        ({"hosts": 13}, "HOSTS=13 is not a number from 1 to 12"),
        ({"hosts": 2}, "a line of format combined names no host; HOSTS=2 needs FORMAT=vhost"),
        ({"format": "w3c"}, "FORMAT='w3c' is none of combined, common, timed, vhost"),
    ],
)
def test_what_cannot_be_had_is_refused(wanted: dict[str, Any], complaint: str):
    with pytest.raises(InputError, match=re.escape(complaint)):
        SampleLog(**wanted)


def test_a_log_of_one_line_and_one_of_many_days():
    assert len(lines_and_truth(lines=1)[0]) == 1
    lines, truth = lines_and_truth(lines=4_000, days=400)
    assert lines[0].split("[")[1].startswith("11/Dec/2024:")
    assert len(truth.by_day) > 390


def test_the_verb_writes_a_folder_or_a_tar(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]):
    assert main(["sample-log", str(tmp_path / "a"), "--lines", "50"]) == 0
    said = capsysbinary.readouterr()
    assert said.out == b""
    assert said.err.startswith(b"50 lines, ")
    assert main(["sample-log", "-", "--lines", "50"]) == 0
    with tarfile.open(fileobj=io.BytesIO(capsysbinary.readouterr().out)) as archive:
        packed = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert packed == {file.name: file.read_bytes() for file in (tmp_path / "a").iterdir()}
    assert sorted(packed) == ["access.log", "truth.json"]
    assert json.loads((tmp_path / "a" / "truth.json").read_text())["total"]["views"] == 50


def test_readme_shows_the_answer(sample_log: tuple[Path, Truth]):
    total = sample_log[1].total
    answer = README.split("Write a made-up access log", 1)[1].split("```", 2)[1]
    assert re.findall(r"\d+", answer) == [str(total[name]) for name in ("views", "errors", "bytes_sent")]

"""What a soak does when, and what it makes of what it has seen."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.soak.chart import draw
from tests.soak.samples import KINDS, Sample, slopes
from tests.soak.timetable import Due, timetable

FAULTS = ["kill-broker", "kill-bolt", "kill-worker"]


def test_ten_hours_have_hourly_runs_an_audit_and_faults_all_the_time():
    due = timetable(10, 1, FAULTS)
    kinds = Counter(one.kind for one in due)
    assert kinds == {"run": 9, "audit": 1, "fault": 29}
    assert [one.at_s for one in due if one.kind == "run"] == [3_600.0 * hour for hour in range(1, 10)]
    assert due == sorted(due)
    assert due[0].at_s > 0
    assert due[-1].at_s < 36_000
    faults = [one for one in due if one.kind == "fault"]
    # Each three that follow each other are all three.
    assert all({one.name for one in faults[first : first + 3]} == set(FAULTS) for first in range(0, 27, 3))
    gaps = {round(after.at_s - before.at_s) for before, after in pairwise(faults)}
    assert len(gaps) > 10
    assert all(0 < gap < 2 * 1_200 for gap in gaps)


def test_days_have_an_audit_each():
    assert [one.at_s for one in timetable(72, 1, FAULTS) if one.kind == "audit"] == [86_400.0, 172_800.0]


def test_minutes_have_all_of_it_too_and_a_seed_says_when():
    due = timetable(0.05, 1, FAULTS)
    assert Counter(one.kind for one in due) == {"run": 3, "audit": 1, "fault": 4}
    assert all(0 < one.at_s < 180 for one in due)
    assert timetable(0.05, 1, FAULTS) == due
    assert timetable(0.05, 2, FAULTS) != due
    assert Due(45.0, "run") in due


@pytest.mark.parametrize("hours", [0, -1])
def test_no_time_is_refused(hours: float):
    with pytest.raises(ValueError, match=f"HOURS={hours} is no time"):
        timetable(hours, 1, FAULTS)


def sample(at_s: float, **memory: float) -> Sample:
    return Sample(at_s, {"memory": memory, "handles": {"kafka": 7}, "disk": {}})


def test_slopes_are_of_the_time_after_the_start_whatever_was_down():
    samples = [sample(360.0 * number, kafka=100 + 5 * number, nimbus=50) for number in range(2, 10)]
    # The start is far off the line, and once a server was down.
    samples = [sample(0, kafka=9_000, nimbus=50), sample(360, kafka=9_000, nimbus=50), *samples]
    samples[5] = sample(1_800, nimbus=50)
    found = {(one.kind, one.service): one for one in slopes(samples)}
    assert found.keys() == {("memory", "kafka"), ("memory", "nimbus"), ("handles", "kafka")}
    kafka = found["memory", "kafka"]
    assert (kafka.first, kafka.last, kafka.an_hour) == (110, 145, pytest.approx(50))
    assert found["memory", "nimbus"].an_hour == pytest.approx(0)
    assert slopes(samples[:2]) == []


def test_a_sample_says_its_delays_in_short():
    held = {kind: {} for kind in KINDS}
    assert Sample(1, held, [1, 2, 3]).json()["delays_ms"] == {"p50": 2, "p99": 3.0, "max": 3}
    assert Sample(1, held).json()["delays_ms"] == {}


def test_a_chart_has_a_picture_a_kind_and_a_line_a_service(tmp_path: Path):
    lines = {"kafka <1>": [(0.0, 10.0), (1.0, 20.0)], "nimbus": [(0.0, 5.0), (1.0, 5.0)]}
    draw({"memory, MB": lines, "nothing": {}}, [(0.5, "fault")], tmp_path / "soak.svg")
    svg = ElementTree.parse(tmp_path / "soak.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in svg.iter(f"{space}text")]
    assert {"memory, MB", "nothing", "kafka <1>", "nimbus"} <= set(texts)
    kafka, nimbus = (line.attrib["points"].split() for line in svg.iter(f"{space}polyline"))
    heights = [float(point.split(",")[1]) for point in (*kafka, *nimbus)]
    # Twice as much is twice as high above the bottom; the highest is at the top.
    bottom = heights[1] + 2 * (heights[0] - heights[1])
    assert heights[2] == heights[3] == pytest.approx(bottom - (bottom - heights[1]) / 4, abs=0.2)

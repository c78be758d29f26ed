"""One server's log judged: as it is known to be, or red with every difference."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from contract.errors import InputError
from tests.servers.compare import Totals, asked_of, differences, known, wrong_times
from tests.servers.container import Ran
from tests.servers.counted import Counted, count
from tests.servers.inside.requests import REQUESTS
from tests.servers.known import Known

_CLIENTS = sorted({request.client for request in REQUESTS} | {"203.0.113.9"})
_DAYS_OF_YEAR = 366


@dataclass(frozen=True)
class Judgement:
    """What a log is, how it was counted, and what is wrong; `counted` and `client` are None of a log that is refused."""

    server: str
    version: str
    read_as: str
    counted: Totals | None
    client: Totals | None
    lines: int
    surprises: tuple[str, ...]
    notes: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.wrong


def judge(server: str, zone: str, ran: Ran, is_known: Known) -> Judgement:
    """What is to say of a run of a server whose clock is of this zone."""
    asked = asked_of(ran.answers)
    try:
        counted = count(ran.log, zone, _CLIENTS, ran.ended_s)
    except InputError as refused:
        wrong = () if is_known.refused and is_known.refused in str(refused) else (f"its log is refused: {refused}",)
        return Judgement(server, ran.version, _first_sentence(refused), None, None, ran.log.count(b"\n"), (), (), wrong)
    late_s = _summer_s(zone, ran.began_s) if is_known.summer_all_year else 0.0
    wrong = [
        *([f"its log was refused: {is_known.refused}"] if is_known.refused else []),
        *([] if asked else ["it answered nothing"]),
        *differences(counted, asked, is_known.facts),
        *wrong_times(counted, asked, ran.began_s, ran.ended_s, late_s),
        *_wrong_rejects(counted, is_known),
    ]
    surprises = [fact.text for fact in is_known.facts]
    if is_known.unfit and is_known.unfit not in surprises:
        surprises.append(is_known.unfit)
    if is_known.summer_all_year:
        surprises.append("times with the offset of summer all year")
    return Judgement(
        server,
        ran.version,
        f"{counted.read_as.removeprefix('read as ').partition(':')[0]}{', told LOG_ZONE=' if counted.with_zone else ''}",
        Totals.of(counted.views),
        Totals.of(known(asked, counted.has_hosts)),
        counted.lines,
        tuple(surprises),
        counted.notes,
        tuple(wrong),
    )


def _wrong_rejects(counted: Counted, is_known: Known) -> list[str]:
    unfit = {reason: number for reason, number in counted.rejected.items() if reason != "not_a_request"}
    if unfit and not is_known.unfit:
        return [f"lines do not parse: {unfit}; {' '.join(counted.notes)}"]
    return [f"it is no longer so: {is_known.unfit}"] if is_known.unfit and not unfit else []


def _summer_s(zone: str, now_s: float) -> float:
    """How far the zone's clock is behind its summer's: a time that claims to be of summer is so much too early."""
    now = datetime.fromtimestamp(now_s, ZoneInfo(zone))
    offsets = [(now + timedelta(days=day)).utcoffset() or timedelta() for day in range(_DAYS_OF_YEAR)]
    return ((now.utcoffset() or timedelta()) - max(offsets)).total_seconds()


def _first_sentence(refused: InputError) -> str:
    return f"refused: {str(refused).removeprefix('it cannot be counted: ').partition('. ')[0].partition(', so nothing')[0]}"

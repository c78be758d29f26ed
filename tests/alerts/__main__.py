"""Makes each alert fire on a stack of its own, and sees it end: the rules of compose/conf/prometheus in a real Prometheus.

What each rule waits for before it fires (`for:`) is cut to seconds here, and Prometheus asks every two seconds; the times
themselves are held by alerts_test.yml. One row an alert: what made it fire, after how many seconds, and after how many it
was silent again when that had ended.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import requests

from tests.fixtures.own_stack import claim, own_stack, parser_of, told

claim(Path(__file__).with_name("compose.yaml"))
os.environ["METRICS"] = "1"

from tests.alerts.causes import GROUPS, Cause, Place, event  # noqa: E402 settings are read from the environment above
from tests.drill.faults import Faults  # noqa: E402
from tests.fixtures.eventually import eventually  # noqa: E402
from tests.fixtures.stack import ROOT, Stack  # noqa: E402

_RULES = ROOT / "compose" / "conf" / "prometheus"
_FIRES_WITHIN_S, _ENDS_WITHIN_S = 420, 420


@dataclass(frozen=True)
class Row:
    """One alert; None where it is not waited for."""

    alert: str
    cause: str
    fired_s: float
    ended_s: float | None


def main() -> int:
    """Exit status: 0 each fired and ended, 1 one did not, or the stack did not start, 130 after Ctrl-C."""
    parser = parser_of("alerts", __doc__, "groups of causes")
    options = parser.parse_args()
    if unknown := set(options.names) - GROUPS.keys():
        parser.error(f"no group is named {' or '.join(sorted(unknown))}; --list names them all")
    if options.list:
        for name, causes in GROUPS.items():
            for cause in causes:
                print(f"{name:10} {', '.join(cause.alerts)}: {cause.text}")
        return 0
    _write_rules(ROOT / "build" / "alerts")
    try:
        with told("alerts"), own_stack(options.keep):
            rows = list(_all(options.names or list(GROUPS), options.format))
    except AssertionError as error:
        print(f"alerts: {error}", file=sys.stderr)
        return 1
    if options.format == "json":
        print(json.dumps([asdict(row) for row in rows], indent=1))
    return 0


def _write_rules(folder: Path) -> None:
    """The stack's own files, quicker."""
    folder.mkdir(parents=True, exist_ok=True)
    rules = (_RULES / "alerts.yml").read_text(encoding="utf-8")
    (folder / "alerts.yml").write_text(re.sub(r"^( +for:) .*", r"\1 5s", rules, flags=re.MULTILINE))
    config = (_RULES / "prometheus.yml").read_text(encoding="utf-8")
    config = re.sub(r"(scrape_interval|evaluation_interval|scrape_timeout|refresh_interval): \w+", r"\1: 2s", config)
    (folder / "prometheus.yml").write_text(config)


def _all(names: list[str], style: str) -> Iterator[Row]:
    stack = Stack.of_this_project()
    place = Place(stack, Faults(stack, os.environ["COMPOSE_PROJECT_NAME"]))
    _at_rest(place)
    for name in names:
        print(f"alerts: group {name}", file=sys.stderr, flush=True)
        for row in _made_to_fire(place, GROUPS[name]):
            if style == "table":
                ended = "" if row.ended_s is None else f"{row.ended_s:4.0f} s"
                print(f"{row.alert:26} fired after {row.fired_s:4.0f} s  ended after {ended:7} {row.cause}", flush=True)
            yield row


def _at_rest(place: Place) -> None:
    """Events on both sides of a run's cut, and no alert."""
    place.stack.simulate(20_000, seed=1)
    place.batch("batch", "python", "-m", "batch", "run", "--wait")
    place.stack.simulate(2_000, seed=2)
    place.send(event("rest", number) for number in range(100))

    def silent() -> None:
        assert _firing(place) == set()

    eventually(silent, _ENDS_WITHIN_S)


def _made_to_fire(place: Place, causes: tuple[Cause, ...]) -> list[Row]:
    fired: dict[str, float] = {}
    ended: dict[str, float] = {}
    alerts = {alert for cause in causes for alert in cause.alerts}
    with ExitStack() as going_on:
        began_s: dict[str, float] = {}
        for cause in causes:
            began_s |= dict.fromkeys(cause.alerts, time.monotonic())
            print(f"alerts: {cause.text}", file=sys.stderr, flush=True)
            going_on.enter_context(cause.done(place))

        def all_fire() -> None:
            for alert in _firing(place) & alerts - fired.keys():
                fired[alert] = time.monotonic() - began_s[alert]
            assert alerts == fired.keys(), f"silent: {', '.join(sorted(alerts - fired.keys()))}"

        eventually(all_fire, _FIRES_WITHIN_S)
    over_s = time.monotonic()
    passing = {alert for cause in causes if cause.ends for alert in cause.alerts}

    def all_end() -> None:
        firing = _firing(place)
        for alert in passing - firing - ended.keys():
            ended[alert] = time.monotonic() - over_s
        assert not passing & firing, f"still firing: {', '.join(sorted(passing & firing))}"

    eventually(all_end, _ENDS_WITHIN_S)
    return [
        Row(alert, cause.text, round(fired[alert], 1), round(ended[alert], 1) if alert in ended else None)
        for cause in causes
        for alert in cause.alerts
    ]


def _firing(place: Place) -> set[str]:
    """As Prometheus says; each with its words filled in."""
    answer = requests.get(f"http://127.0.0.1:{place.stack.settings.port_prometheus}/api/v1/alerts", timeout=10)
    alerts = [alert for alert in answer.json()["data"]["alerts"] if alert["state"] == "firing"]
    for alert in alerts:
        assert "error expanding template" not in json.dumps(alert["annotations"]), alert
    return {alert["labels"]["alertname"] for alert in alerts}


if __name__ == "__main__":
    sys.exit(main())

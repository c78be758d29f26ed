"""Events are taken back under traffic: docs/operations.md, 'take events back'. Nowhere is anything of them left."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.drill.scene import Scene

_EVENTS, _BROKEN, _DAYS = 5_000, 50, 4
# Everything that has a value, a key or a hash of an event, whichever run's it is.
_TABLES = tuple(f"{part}_{view}" for part in ("batch", "speed") for view in ("site_traffic", "page_traffic", "referrers"))
# DataNodes are known by name only inside the network.
_SEARCH = (Path(__file__).parent / "inside" / "search_archive.py").read_text(encoding="utf-8")


def forget_a_site(scene: Scene) -> None:
    """Counted, archived and in the day filters; then forgotten; then sent again, all of it."""
    site = scene.other_site
    values = scene.stretch(datetime.now(UTC) - timedelta(days=_DAYS), timedelta(days=_DAYS - 1), _EVENTS, site)
    # They are no events, and name it.
    values += [value[:-1] for value in values[:_BROKEN]]
    scene.produce(values)
    scene.until(scene.is_counted)
    scene.stack.run("make", "--silent", "batch")
    assert _shown(scene) == (_EVENTS, _BROKEN), f"before it is forgotten views and quarantine have {_shown(scene)} of it"
    planned = scene.stack.run("env", "DRY_RUN=1", "make", "--silent", "forget", f"SITE={site}")
    counts = f"{_EVENTS:,} events and {_BROKEN:,} rejects in "
    assert counts in planned.stderr, f"the plan does not say {counts!r}: {planned.stderr}"
    assert "Kafka has none of it any more from 20" in planned.stderr, planned.stderr
    assert _shown(scene) == (_EVENTS, _BROKEN), "a plan has changed something"
    scene.taken_back = site
    scene.stack.run("env", "YES=1", "make", "--silent", "forget", f"SITE={site}")
    _is_nowhere(scene, site)
    # What was forgotten does not come back by itself.
    scene.produce(values)
    scene.later.append(lambda: _is_nowhere(scene, site))


def _shown(scene: Scene) -> tuple[int, int]:
    """How many views of the site there are, and how many broken records of it in quarantine."""
    ((views,),) = scene.stack.ask(
        f"SELECT coalesce(sum(views), 0)::bigint FROM site_traffic WHERE site = '{scene.other_site}'"
    )
    named = scene.faults.owner_asks(
        f"SELECT count(*) FROM serving.quarantined WHERE position('{scene.other_site}' in encode(value, 'escape')) > 0"
    )
    return int(views), int(named[0][0])


def _is_nowhere(scene: Scene, site: str) -> None:
    assert _shown(scene) == (0, 0), f"views and quarantine still have {_shown(scene)} of what was forgotten"
    for table in _TABLES:
        ((rows,),) = scene.faults.owner_asks(f"SELECT count(*) FROM serving.{table} WHERE site = '{site}'")
        assert rows == 0, f"serving.{table} has {rows} rows of what was forgotten"
    ((rows,),) = scene.faults.owner_asks(f"SELECT count(*) FROM serving.drift_row WHERE keys ->> 'site' = '{site}'")
    assert rows == 0, f"{rows} rows of drift name what was forgotten"
    files = scene.stack.tools("-c", _SEARCH, site).splitlines()
    assert int(files.pop(0)) > 0, "no file of the archive was looked into"
    assert not files, f"files have what was forgotten: {files}"
    statements = scene.stack.ask(
        "SELECT kind, events, rejects, run_id IS NOT NULL FROM forgotten ORDER BY number DESC LIMIT 1"
    )
    assert statements == [("site", _EVENTS, _BROKEN, True)], statements
    refused = scene.stack.run("make", "--silent", "rollback", check=False)
    assert refused.returncode != 0, "a run that had what was forgotten was gone back to"
    audit = scene.stack.run("make", "--silent", "audit", "FORMAT=json", "ONLY=archive", check=False)
    assert json.loads(audit.stdout)["ok"], audit.stdout

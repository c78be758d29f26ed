"""The event gets a field and a view over it: its history comes from what was received before anybody knew of it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from contract.archive_file import decode, encode
from contract.event import Event
from contract.master import MASTER, OffsetRange
from contract.settings import Settings
from contract.streams.page_views import PAGE_VIEWS
from ingest.archive_files import ArchiveFiles
from ingest.archive_plan import current
from ingest.hdfs import Hdfs
from serving.database import connect
from serving.handoff import Counts, commit_range, positions
from tests.fixtures.archived import PARTITIONS, judged
from tests.fixtures.changed_modules import DECLARATION, NEW_FIELDS, NEW_VIEW, ROOT, environment
from tests.fixtures.pageviews import TODAY

TIME_MS = int(TODAY.timestamp() * 1000)
# The database is migrated and a run made by the later version, whose event and catalogue are others than ours.
LATER = """
import sys
from dataclasses import replace
from batch.run import run
from contract.settings import Settings
from serving.migrate import migrate

if __name__ == "__main__":
    name, root = sys.argv[1:]
    settings = replace(Settings.from_env(), database_name=name, archive_root=root, spark_master="local[2]", batch_wait_s=1)
    migrate(settings)
    print(run(settings, lambda line: None).received)
"""


def value(number: int, **more: object) -> bytes:
    known = {"event_id": f"e:{number}", "event_time": TODAY.isoformat(), "site": "s", "page": "/", "visitor_id": "v"}
    fields: dict[str, object] = {**known, "status": 200, "bytes_sent": number}
    return json.dumps(fields | more).encode()


def without_values(settings: Settings, offsets: OffsetRange) -> None:
    """Make the file what it was before values were kept."""
    store, path = Hdfs(settings.webhdfs_url), offsets.path(settings.archive_root, MASTER)
    table, contents = decode(store.read(path), path)
    store.delete(path)
    store.write(path, encode(table.drop_columns("value"), replace(contents, form=None), PAGE_VIEWS))


def test_a_view_over_a_new_field_has_the_history_from_before_the_field(
    database: Settings, archive_root: str, tmp_path: Path
):
    assert "country" not in Event.__struct_fields__
    settings = replace(database, archive_root=archive_root)
    files = ArchiveFiles(Hdfs(settings.webhdfs_url), archive_root)
    countries = ["de", "fr", "de", None, "fr", "de"]
    values = [value(number, country=country, items=number) for number, country in enumerate(countries)]
    # Files of before values were kept, of values that somebody merged, and of values as they were flushed.
    bounds = ((0, 1), (1, 3), (3, 4), (4, 6))
    for first, after in bounds:
        times_ms = [TIME_MS] * (after - first)
        files.put(OffsetRange(0, first, after), *judged(0, range(first, after), times_ms, values[first:after]))
    without_values(settings, OffsetRange(0, 0, 1))
    assert files.merge(current(0, files.ranges(0))[:3], 1 << 30) == OffsetRange(0, 0, 4)
    ends = [len(values), *[0] * (PARTITIONS - 1)]
    with connect(settings, "speed") as connection:
        positions(connection, PARTITIONS)
        rejects = judged(0, [], [], [])[1].rejects
        commit_range(connection, OffsetRange(0, 0, ends[0]), {}, Counts(0, 0, 0), rejects, settings.topic)
    script = tmp_path / "later.py"
    script.write_text(LATER, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), settings.database_name, archive_root],
        cwd=ROOT,
        env=environment(tmp_path, {DECLARATION: [NEW_FIELDS, NEW_VIEW]}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1:] == [str(len(values))]
    with connect(settings, "reader") as connection:
        rows = connection.execute("SELECT country, sum(views), sum(items) FROM countries GROUP BY 1 ORDER BY 1").fetchall()
    # Nobody knows the country of the event whose value was not kept.
    assert rows == [("", 2, 3), ("de", 2, 2 + 5), ("fr", 2, 1 + 4)]

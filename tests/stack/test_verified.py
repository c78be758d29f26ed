"""Whole stack: `make audit` finds nothing under traffic, and names the place of each damage; then what it says helps."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest
import requests

from contract.master import MASTER, OffsetRange, folder, gaps
from contract.views import VIEWS
from tests.fixtures.eventually import eventually
from tests.fixtures.stack import ROOT, Stack, status_of

SIMULATE = ("compose/engine", "compose", "run", "--rm", "-T", "--no-deps", "tools", "-m", "ingest", "simulate")


def audit(stack: Stack, only: str = "") -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status, and the checks by name, or one."""
    done = stack.run("make", "--silent", "audit", "FORMAT=json", f"ONLY={only}", check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def assert_nothing_is_wrong(stack: Stack, only: str) -> None:
    status, checks = audit(stack, only)
    assert (status, [(name, check["findings"]) for name, check in checks.items()]) == (0, [(only, [])])


def only_finding(stack: Stack, check: str) -> dict[str, str]:
    """The audit fails, and of this check there is one finding."""
    status, checks = audit(stack, check)
    assert status != 0
    (finding,) = checks[check]["findings"]
    return finding  # type: ignore[no-any-return]


def webhdfs(stack: Stack, method: str, path: str, **options: str) -> Any:
    """An operation of the NameNode: DataNodes are not reached from outside."""
    url = f"http://localhost:{stack.settings.port_namenode}/webhdfs/v1{path}"
    answer = requests.request(method, url, params={"user.name": "braid", **options}, timeout=30)
    answer.raise_for_status()
    return answer.json()


def files_of(stack: Stack, partition: int) -> list[OffsetRange]:
    listing = webhdfs(stack, "GET", folder(stack.settings.archive_root, MASTER, partition), op="LISTSTATUS")
    names = [entry["pathSuffix"] for entry in listing["FileStatuses"]["FileStatus"]]
    return sorted(file for name in names if (file := OffsetRange.of_file(partition, name)))


def lone_file(stack: Stack, partition: int) -> OffsetRange:
    """A file whose offsets no other one has, and that is not the last: events go through until there is one."""
    for seed in range(20, 30):
        files = files_of(stack, partition)
        for file in files:
            if gaps(other for other in files if other != file):
                return file
        stack.simulate(2_000, seed=seed)
        wait_until_archived(stack)
    raise AssertionError(f"no such file among {files}")


def wait_until_archived(stack: Stack) -> None:
    def archived() -> None:
        status = status_of(stack)
        assert [at["partition"] for at in status["positions"] if at["archive_lag"] or at["speed_lag"]] == []
        assert status["archive_gaps"] == []

    eventually(archived, within_s=60)


def in_network(stack: Stack, code: str) -> None:
    """Python on the HDFS of the stack, inside its network."""
    stack.tools("-c", f"from ingest.hdfs import Hdfs\nhdfs = Hdfs('http://namenode:9870')\n{code}")


@pytest.mark.long
def test_nothing_is_wrong_under_traffic(stack: Stack):
    counted = stack.ask("SELECT sum(counted) FROM ledger")
    with subprocess.Popen([*SIMULATE, "--rate", "300", "--seed", "19"], cwd=ROOT, stderr=subprocess.DEVNULL) as traffic:

        def flowing() -> None:
            assert stack.ask("SELECT sum(counted) FROM ledger") > counted

        try:
            eventually(flowing, within_s=60)
            done = stack.run("make", "--silent", "audit", check=False)
            assert traffic.poll() is None
        finally:
            traffic.send_signal(signal.SIGINT)
    assert done.returncode == 0, done.stdout
    assert [line.split()[:2] for line in done.stdout.splitlines()[:4]] == [
        ["ok", name] for name in ("archive", "positions", "ledger", "recompute")
    ]
    assert done.stdout.endswith("\nnothing is wrong\n")
    assert stack.ask("SELECT kind, state FROM runs ORDER BY run_id DESC LIMIT 1") == [("audit", "audited")]
    stack.wait_until_counted()
    wait_until_archived(stack)


def test_a_deleted_file_is_named_and_archived_again_after_a_restart(stack: Stack):
    file = lone_file(stack, 0)
    webhdfs(stack, "DELETE", file.path(stack.settings.archive_root, MASTER), op="DELETE")
    finding = only_finding(stack, "archive")
    (gap,) = gaps(files_of(stack, 0))
    assert file.first_offset <= gap.first_offset < gap.next_offset <= file.next_offset
    assert finding["place"] == f"partition 0, offsets [{gap.first_offset}, {gap.next_offset})"
    stack.compose("restart", "archiver")
    wait_until_archived(stack)
    assert_nothing_is_wrong(stack, "archive")


def test_a_flipped_byte_is_named(stack: Stack):
    path = lone_file(stack, 1).path(stack.settings.archive_root, MASTER)
    flip = f"content = bytearray(hdfs.read({path!r}))\ncontent[len(content) // 2] ^= 1\nhdfs.write({path!r}, bytes(content))"
    in_network(stack, flip)
    finding = only_finding(stack, "archive")
    assert finding["place"] == path
    assert "bytes are not those that were written" in finding["problem"]
    # A second flip of the same bit mends it.
    in_network(stack, flip)


def test_a_byte_flipped_on_the_disk_of_one_datanode_is_named(stack: Stack):
    path = lone_file(stack, 2).path(stack.settings.archive_root, MASTER)
    (block,) = webhdfs(stack, "GET", path, op="GET_BLOCK_LOCATIONS")["LocatedBlocks"]["locatedBlocks"]
    find = f"find /var/lib/braid/datanode -name blk_{block['block']['blockId']}"
    flip = rf'f=$({find}); printf "\\xff\\x00\\xff\\x00" | dd of=$f bs=1 seek=500 conv=notrunc status=none'
    stack.compose("exec", "-T", "datanode-1", "bash", "-c", flip)
    for _ in range(2):  # HDFS has found it by then; it still says so
        finding = only_finding(stack, "archive")
        assert finding["place"] == f"{path} on datanode-1"
        assert "HDFS finds this copy damaged" in finding["problem"]
    # The views can still be recomputed, and the file written anew from its other copy.
    assert_nothing_is_wrong(stack, "recompute")
    in_network(stack, f"hdfs.write({path!r}, hdfs.read({path!r}))")
    assert_nothing_is_wrong(stack, "archive")


def test_a_changed_row_of_a_batch_table_is_named_and_gone_after_a_run(stack: Stack):
    stack.run("make", "--silent", "batch", "FULL=1")
    stack.simulate(2_000, seed=18)
    ((site, page, views),) = stack.ask(
        "UPDATE serving.batch_page_traffic SET views = views + 1 WHERE (tableoid, ctid) IN "
        "(SELECT tableoid, ctid FROM serving.batch_page_traffic WHERE run_id = "
        "(SELECT max(run_id) FROM serving.batch_page_traffic) ORDER BY views DESC LIMIT 1) RETURNING site, page, views",
        role="postgres",
    )
    status, checks = audit(stack)
    assert status != 0
    assert [name for name, check in checks.items() if check["findings"]] == ["recompute"]
    summary, row = checks["recompute"]["findings"]
    assert summary["place"] == "page_traffic"
    assert f"page={page!r} site={site!r}" in row["place"]
    assert "views was " in row["problem"]
    assert views > 1
    stack.run("make", "--silent", "batch", "FULL=1")
    assert audit(stack)[0] == 0
    # The run that put it right says what it changed. Rows by day only audits compare.
    verdicts = stack.ask(
        "SELECT view_name, verdict FROM drift_summary "
        "WHERE run_id = (SELECT max(run_id) FROM drift_summary WHERE kind = 'full')"
    )
    assert dict(verdicts) == {view.name: "equal" for view in VIEWS} | {"page_traffic": "wrong"}

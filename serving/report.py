"""Status for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serving.disk import Disk
from serving.status import Status


def print_status(status: Status, console: Console) -> None:
    """Health, positions, last run, ledger and addresses, one table each."""
    health = (
        {"server": one.name, "state": "up" if one.up else "DOWN", "address": one.address, "detail": one.detail}
        for one in status.health
    )
    _print(console, "Health", health)
    positions = (
        {
            "partition": p.partition,
            "Kafka": p.kafka,
            "held back": p.held_back,
            "archive": p.archive,
            "archive lag": p.archive_lag,
            "speed": p.speed,
            "speed lag": p.speed_lag,
            "batch": p.batch,
        }
        for p in status.positions
    )
    _print(
        console,
        "Next offset in Kafka, archive and strands, and how many offsets behind Kafka, held back ones included",
        positions,
    )
    for text in open_transaction_notices(status):
        console.print(f"  {text}\n", soft_wrap=True)
    if status.lost_positions:
        _print(
            console, "Readers that stand still: Kafka has another log", [{"what": text} for text in status.lost_positions]
        )
    if status.archive_gaps:
        gaps = [
            {"partition": gap.partition, "offsets": f"[{gap.first_offset}, {gap.next_offset})", "what to do": gap.advice}
            for gap in status.archive_gaps
        ]
        _print(console, "Gaps of the archive: runs whose cut is above one cannot publish", gaps)
    for text in (*unread_notices(status), *still_shown_notices(status)):
        console.print(f"  {text}\n", soft_wrap=True)
    if status.disk:
        _print(console, "Disk, in MB; the archive with all its copies, growth in the last 24 hours", _disk(status.disk))
        for text in status.disk.warnings:
            console.print(f"  {text}\n", soft_wrap=True)
    for run in status.going_on:
        console.print(f"  {run.text()}\n", soft_wrap=True)
    _print(console, "Last batch run", [status.last_run] if status.last_run else [])
    _print(console, "Ledger: received = counted + duplicate + quarantined + forgotten", status.ledger)
    print_addresses(status.addresses, console)


def open_transaction_notices(status: Status) -> list[str]:
    """A sentence for each transaction that readers wait for."""
    return [
        f"{transaction.text()}: readers wait until it ends; `make transactions` names its producer"
        for transaction in status.open_transactions
    ]


def unread_notices(status: Status) -> list[str]:
    """A sentence for each partition that a reader has not begun with."""
    return [f"{text}; readers find what was added within a minute, or `make audit` names it" for text in status.unread]


def still_shown_notices(status: Status) -> list[str]:
    """A sentence for each statement of what is forgotten that views do not keep to yet."""
    return [
        f"statement {statement['number']} of what is forgotten ({statement['kind']}), said at {statement['said_at']}, "
        "is in no published run yet: `make batch`; if that says that it is unfinished, `make forget RESUME=1`"
        for statement in status.still_shown
    ]


def _disk(disk: Disk) -> list[dict[str, Any]]:
    def mb(size_bytes: int | None) -> int | None:
        return None if size_bytes is None else size_bytes >> 20

    used_bytes = None if disk.size_bytes is None or disk.free_bytes is None else disk.size_bytes - disk.free_bytes
    return [
        {"what": what, "taken": mb(taken), "of": mb(limit), "grown": mb(grown)}
        for what, taken, limit, grown in (
            ("Kafka's log of the topic", disk.kafka_bytes, disk.kafka_budget_bytes, disk.kafka_day_bytes),
            ("the archive", disk.archive_bytes, None, disk.archive_day_bytes),
            ("the disk of Kafka's log, all of it", used_bytes, disk.size_bytes, None),
        )
    ]


def print_addresses(addresses: Mapping[str, str], console: Console) -> None:
    """Where to connect."""
    _print(console, "Addresses", [{"what": name, "where": address} for name, address in addresses.items()])


def _print(console: Console, title: str, rows: Iterable[Mapping[str, Any]]) -> None:
    console.print(Text(title, style="bold"))
    listed = list(rows)
    if not listed:
        console.print("  none\n")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, value in listed[0].items():
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left", overflow="fold")
    for row in listed:
        table.add_row(*(Text("–" if value is None else str(value)) for value in row.values()))
    console.print(table)
    console.print()

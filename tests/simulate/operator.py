"""What a person does when readers stand still: the commands of compose/, each a process that can end anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rich.console import Console

from batch.run import run
from contract.errors import InputError, PositionLost, TimedOut
from contract.forgotten import Kind, Said
from contract.resumption import Resumption
from contract.settings import Settings
from ingest.accept import accept
from ingest.archive_files import ArchiveFiles
from ingest.forget import keep_to, lift, plan
from ingest.forgotten_log import ForgottenLog
from ingest.hdfs import FileStore
from ingest.register import Register
from ingest.resume import resume
from serving.database import connect
from serving.forgotten import forgotten_statements, record_forgotten
from serving.gaps import plan_acceptance
from serving.handoff import record_lost
from serving.progress import wait_for_archive
from serving.resume import plan_resumption
from tests.simulate.process import point

STOP_ARCHIVER, START_ARCHIVER = "compose stop archiver", "compose start archiver"
REFUSALS = (PositionLost, InputError, TimedOut)
"""How the commands end, beside the ways in which their run does, when something has changed while they were at it."""


def resume_topic(settings: Settings, store: FileStore, say: Callable[[str], None]) -> None:
    """compose/resume-topic."""
    found = plan_resumption(settings)
    if found == Resumption():
        return
    if found.partitions:
        _resume(settings, store, say)
    if found.unarchived:
        wait_for_archive(lambda: plan_resumption(settings), settings.batch_wait_s, Console(quiet=True))
        _resume(settings, store, say)
    run(replace(settings, rescue_offsets=1), say)


def _resume(settings: Settings, store: FileStore, say: Callable[[str], None]) -> None:
    point(STOP_ARCHIVER)
    plan = plan_resumption(settings)
    resume(ArchiveFiles(store, settings.archive_root), plan, say)
    with connect(settings, "batch") as connection:
        record_lost(connection, plan.losses.lost)
    point(START_ARCHIVER)


def accept_gap(settings: Settings, store: FileStore, say: Callable[[str], None]) -> None:
    """compose/accept-gap."""
    if not plan_acceptance(settings).lost:
        return
    point(STOP_ARCHIVER)
    plan = plan_acceptance(settings)
    with connect(settings, "batch") as connection:
        record_lost(connection, plan.lost)
    accept(ArchiveFiles(store, settings.archive_root), plan, say)
    point(START_ARCHIVER)
    run(replace(settings, rescue_offsets=1), say)


def forget(settings: Settings, store: FileStore, say: Callable[[str], None], kind: Kind, what: str) -> None:
    """compose/forget SITE=, VISITOR= or SOURCE=."""
    log, files = ForgottenLog(store, settings), ArchiveFiles(store, settings.archive_root)
    statement, amount = plan(settings, log, files, _register(settings, store), kind, what, say)
    if not amount.files:
        return
    point(STOP_ARCHIVER)
    added = log.add(statement)
    say(f"statement {added.number} is written down: {kind} {what}")
    _keep_to(settings, store, say, log.said(), again=False)


def forget_again(settings: Settings, store: FileStore, say: Callable[[str], None]) -> None:
    """compose/forget RESUME=1."""
    log = ForgottenLog(store, settings)
    with connect(settings, "batch") as connection:
        known = Said(forgotten_statements(connection))
    log.restate(known)
    said = log.said()
    point(STOP_ARCHIVER)
    say(f"{len(said.unfinished)} statements are gone on with")
    _keep_to(settings, store, say, said, again=True)


def _keep_to(settings: Settings, store: FileStore, say: Callable[[str], None], said: Said, again: bool) -> None:
    with connect(settings, "batch") as connection:
        record_forgotten(connection, said, again)
    log, files = ForgottenLog(store, settings), ArchiveFiles(store, settings.archive_root)
    keep_to(log, files, _register(settings, store), say)
    point(START_ARCHIVER)
    run(settings, say, full=True)


def lift_statement(settings: Settings, store: FileStore, say: Callable[[str], None], number: int) -> None:
    """compose/forget LIFT=."""
    log, register = ForgottenLog(store, settings), _register(settings, store)
    point(STOP_ARCHIVER)
    lift(log, register, number)
    say(f"statement {number} is lifted")
    with connect(settings, "batch") as connection:
        record_forgotten(connection, log.said())
    if log.said().unfinished:
        keep_to(log, ArchiveFiles(store, settings.archive_root), register, say)
    point(START_ARCHIVER)


def _register(settings: Settings, store: FileStore) -> Register:
    return Register(store, settings.archive_root, lambda: 0)

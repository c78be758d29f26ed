"""Every error a user can meet, each with the place, the numbers and the next command in its text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Self


class BraidError(Exception):
    """An expected failure: mains print its text as one line and exit 1, never a stack trace."""


class ConfigurationError(BraidError):
    """A setting is missing or wrong; the text names the variable."""

    @classmethod
    def bad_value(cls, variable: str, value: str, expected: str) -> Self:
        return cls(f"{variable}={value!r} is not {expected}; see compose/.env.example")

    @classmethod
    def missing_secret(cls, path: str) -> Self:
        return cls(f"secret {path} cannot be read; `make up` creates the secrets")


class InputError(BraidError):
    """A file or an argument given by a person cannot be used."""


class CatalogueError(BraidError):
    """A stream, or a view of one, is declared wrongly: see contract/streams."""


class ArchiveGap(BraidError):
    """Offsets are missing in the master dataset."""

    @classmethod
    def between(cls, partition: int, first_offset: int, next_offset: int) -> Self:
        return cls(
            f"the archive of partition {partition} lacks offsets [{first_offset}, {next_offset}); "
            "no run can be exact without them: `make status` shows whether Kafka still has them"
        )

    @classmethod
    def lost(cls, partition: int, first_offset: int, next_offset: int) -> Self:
        return cls(
            f"the archive of partition {partition} lacks offsets [{first_offset}, {next_offset}), and Kafka has them no "
            "more: no run can be exact until their file is put back, or `make accept-gap` has written down that they are "
            "lost; see docs/operations.md, 'a file of the archive is damaged or gone'"
        )


class ArchiveDamaged(BraidError):
    """A file of the archive is not what was written, or cannot be read at all."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}; see docs/operations.md, 'a file of the archive is damaged or gone'")
        self.problem = problem

    @classmethod
    def of(cls, path: str, problem: str) -> Self:
        return cls(path, f"is damaged: {problem}")

    @classmethod
    def unreadable(cls, path: str, cause: object) -> Self:
        return cls(path, f"HDFS lists it but does not give it ({' '.join(str(cause).split())})")


class RegisterDamaged(BraidError):
    """A file of the register of sources cannot be read."""

    @classmethod
    def of(cls, folder: str, problem: object) -> Self:
        return cls(
            f"the newest file in {folder} is damaged: {problem}; nothing was sent. Without that folder its logs are counted "
            "anew, with the same ids: see docs/operations.md, 'sources'"
        )


class ArchiveBehind(BraidError):
    """The archive stands still below the cut of a run."""

    @classmethod
    def cut(cls, partition: int, archived_offset: int, cut_offset: int, stood_s: float) -> Self:
        return cls(
            f"the archive of partition {partition} ends at {archived_offset} but the cut is {cut_offset}, and nothing came "
            f"for {stood_s:.0f} s; is the archiver running? `make status`"
        )


class PositionLost(BraidError):
    """The log that is there is not the one that a position was taken in: going on would skip records, or count others."""

    cut_offset: int | None = None
    """Up to which of the log's own offsets its records are still those that were read; None if nobody can tell."""
    _SEE = "nothing is read until that is settled: `make resume-topic`; see docs/operations.md, 'the topic was replaced'"

    @classmethod
    def topic(cls, reader: str, topic: str, stored_id: str, found_id: str) -> Self:
        return cls(
            f"{reader} has read the topic with the id {stored_id}, but topic {topic} has the id {found_id}: "
            f"it was made again, or it is another one; {cls._SEE}"
        )

    @classmethod
    def partition(cls, reader: str, topic: str, partition: int, next_offset: int, partitions: int) -> Self:
        return cls(
            f"{reader} goes on at offset {next_offset} of partition {partition}, but topic {topic} has {partitions} "
            f"partitions, and Kafka takes none away: it was made again, or it is another one; {cls._SEE}"
        )

    @classmethod
    def shorter(cls, reader: str, topic: str, partition: int, next_offset: int, high_offset: int) -> Self:
        return cls(
            f"{reader} goes on at offset {next_offset} of partition {partition}, but topic {topic} ends at {high_offset}: "
            f"{next_offset - high_offset} records that were read are gone from Kafka; {cls._SEE}"
        )

    @classmethod
    def cut(cls, reader: str, topic: str, partition: int, next_offset: int, report: str) -> Self:
        """`report` is the client's, with the epoch of the position and where that ends now."""
        return cls(
            f"{reader} goes on at offset {next_offset} of partition {partition}, but topic {topic} has lost records below "
            f"it and taken others in their place ({report}); {cls._SEE}"
        )

    @classmethod
    def because(cls, reason: str | None) -> Self:
        return cls(f"{reason}; {cls._SEE}")


class DataLost(BraidError):
    """Kafka's retention deleted records before they were read."""

    @classmethod
    def before_read(cls, reader: str, partition: int, wanted_offset: int, low_offset: int) -> Self:
        return cls(
            f"{reader} needs offset {wanted_offset} of partition {partition}, but the broker's first is {low_offset}: "
            f"{low_offset - wanted_offset} records are gone from Kafka; "
            "see docs/operations.md, 'retention overtook a reader'"
        )


class OffsetRefused(BraidError):
    """A speed commit does not start where the partition's progress stands."""

    def __init__(self, partition: int, first_offset: int, next_offset: int) -> None:
        super().__init__(
            f"commit of partition {partition} starts at offset {first_offset}, but its progress is {next_offset}; "
            f"go on from {next_offset}"
        )
        self.next_offset = next_offset


class PublicationRefused(BraidError):
    """A speed commit was held against the day filters of another publication than the live one."""

    def __init__(self, judged_generation: int, live_generation: int) -> None:
        super().__init__(
            f"the range was held against the day filters of generation {judged_generation}, but generation "
            f"{live_generation} is live; load its filters and judge the range again"
        )
        self.live_generation = live_generation


class StatementsRefused(BraidError):
    """A speed commit does not know all that was said to be forgotten."""

    def __init__(self, known: int, last: int) -> None:
        super().__init__(
            f"the range was held against statement {known} of what is forgotten, but there is statement {last}; "
            "load them and judge the range again"
        )


class ForgottenKeyLost(BraidError):
    """What is forgotten cannot be known again: the key of its digests is another one."""

    def __init__(self, secret: str, number: int, said_at: str) -> None:
        super().__init__(
            f"the secret {secret} is not the one that statement {number} of {said_at} was made with, so nobody can tell "
            f"what is forgotten: put build/secrets/{secret} back from your backup and `make up`, or give the statement up "
            f"by `make forget LIFT={number}`, after which what it forgot counts if it comes again"
        )


class ForgettingUnfinished(BraidError):
    """Files of the archive may still hold what was said to be forgotten."""

    @classmethod
    def before_run(cls, number: int, said_at: str) -> Self:
        return cls(
            f"what statement {number} of {said_at} forgets may still be in files of the archive, so no run is right now; "
            "if no `make forget` is at work, one broke off: `make forget RESUME=1` goes on"
        )

    @classmethod
    def not_on_hdfs(cls, known: int, said: int) -> Self:
        return cls(
            f"the database knows {known} statements of what is forgotten, but HDFS has {said}: was its volume lost? "
            "`make forget RESUME=1` writes them down there again, and takes out of the archive what they forget"
        )

    @classmethod
    def before_another(cls, number: int, said_at: str) -> Self:
        return cls(
            f"statement {number} of {said_at} is not finished: `make forget RESUME=1` first, and nothing else was said now"
        )


class RunRefused(BraidError):
    """A batch run may not write or publish: it has ended, or the live run is not the one it was planned on."""

    @classmethod
    def because(cls, reason: str | None) -> Self:
        return cls(f"{reason}; nothing was changed, `make batch` starts a new run")


class AnotherRun(BraidError):
    """A batch run was not begun, because another one computes."""

    @classmethod
    def goes_on(cls, what: str) -> Self:
        return cls(f"{what}. Nothing was begun; `make batch WAIT=1` begins when that has ended")

    @classmethod
    def is_silent(cls, what: str) -> Self:
        return cls(
            f"{what}. Nothing was begun, and it is not waited for any longer: its driver stands still, or does not reach "
            "the database. `make ps` shows its container; once that is ended, `make batch` begins at once"
        )


class NoExecutor(BraidError):
    """Spark has nobody who would compute a run's tasks."""

    @classmethod
    def of_run(cls, run_id: int, waited_s: float, reason: str) -> Self:
        return cls(
            f"run {run_id} waited {waited_s:.0f} s for an executor of Spark and got none: {reason}; nothing was published, "
            "`make status` shows what is up, `make batch` starts again"
        )


class CatalogueChanged(BraidError):
    """The views of this process are not those of the database, so its rows could land in wrong columns."""

    @classmethod
    def because(cls, reason: str | None) -> Self:
        return cls(f"{reason}; nothing was changed, `make deploy` brings database and all layers to one definition")


class RollbackRefused(BraidError):
    """A run cannot be brought back: it is not kept, or speed rows after its cut are gone."""

    @classmethod
    def because(cls, reason: str | None) -> Self:
        return cls(f'{reason}; nothing was changed, `make query SQL="select * from runs where is_kept"` shows the kept runs')


class JobFailed(BraidError):
    """Spark could not be reached, or a task of the job failed."""

    @classmethod
    def of(cls, master: str, report: str) -> Self:
        """Of Spark's report, the last line that names an error of a Python task; its first line if there is none.

        A Python process that was killed says nothing, so Spark's words on it are what there is.
        """
        lines = [line.strip() for line in report.strip().splitlines() if line.strip()] or ["no reason given"]
        causes = [
            line
            for line in lines
            if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Refused|Changed|Unavailable|Damaged): ", line)
        ]
        ended = re.search(r"(Task \S+ in stage \S+ failed \d+ times).*Python worker exited unexpectedly", report)
        if ended:
            return cls(
                f"{ended[1]} on Spark at {master}: its Python process was killed, as it is where spark-worker has no memory "
                "left (SPARK_WORKER_LIMIT, `compose/.env.example`); `make batch` starts again"
            )
        cause = next((line for line in reversed(causes) if not line.startswith(("java.", "org.apache."))), lines[0])
        if ours := re.fullmatch(rf"{re.escape(__name__)}\.\w+: (.+)", cause):
            # It names the place and the next command itself.
            return cls(ours[1])
        return cls(
            f"the job failed on Spark at {master}: {cause[:500]}; `make status` shows what is up, `make batch` starts again"
        )


class EngineUnavailable(BraidError):
    """A server did not answer, or takes nothing now: what was asked is to be tried again."""

    @classmethod
    def at(cls, engine: str, address: str, cause: object) -> Self:
        detail = " ".join(str(cause).split())
        return cls(f"{engine} at {address} does not answer ({detail}); `make status` shows what is up")

    @classmethod
    def for_now(cls, engine: str, address: str, state: str, cause: object) -> Self:
        """A server that is there, in a state that passes."""
        detail = " ".join(str(cause).split())
        return cls(f"{engine} at {address} {state} ({detail}); try again, `make status` shows what is up")


class PortTaken(BraidError):
    """Somebody else listens where this process was to answer."""

    @classmethod
    def of(cls, port: int, cause: OSError, setting: str) -> Self:
        return cls(f"nothing can listen on port {port} ({cause.strerror}): {setting}=… chooses another, 0 any that is free")


class StatementRefused(BraidError):
    """The database answers, and did not do what it was asked, because it has no room, no time or no means."""

    @classmethod
    def by(cls, engine: str, address: str, what: str, cause: object, advice: str) -> Self:
        detail = " ".join(str(cause).split())[:500]
        return cls(f"{engine} at {address} {what} ({detail}); {advice}")


class LoginRefused(BraidError):
    """TimescaleDB answers, but does not let a role in: trying again does not help."""

    @classmethod
    def password(cls, role: str, address: str, secret: str, reason: str) -> Self:
        return cls(
            f"TimescaleDB at {address} refused the password of role {role} that is in build/secrets/{secret} of this "
            f"checkout ({reason}); if that was made anew, `make down` and then `make up` give it to the server"
        )

    @classmethod
    def otherwise(cls, role: str, address: str, reason: str) -> Self:
        return cls(
            f"TimescaleDB at {address} does not let role {role} in ({reason}); `make up` makes roles and schema, "
            "and the database is the one that BRAID_DATABASE_NAME named when its volume was new"
        )


class TopicUnusable(BraidError):
    """The topic is missing or is not as every layer expects it."""

    @classmethod
    def missing(cls, topic: str, bootstrap: str) -> Self:
        return cls(f"Kafka at {bootstrap} has no topic {topic}; `make up` creates it")

    @classmethod
    def unknown(cls, topic: str, bootstrap: str) -> Self:
        return cls(
            f"Kafka at {bootstrap} has no topic {topic}, so nothing was sent; "
            f"`BRAID_TOPIC={topic} compose/engine compose run --rm --no-deps topic` makes it"
        )

    @classmethod
    def fewer(cls, topic: str, found: int, wanted: int) -> Self:
        return cls(
            f"topic {topic} has {found} partitions and Kafka takes none away, so it cannot have {wanted}; nothing was "
            "changed; fewer are another topic: see docs/operations.md, 'more partitions'"
        )

    @classmethod
    def timestamps(cls, topic: str, found: str) -> Self:
        return cls(
            f"topic {topic} stamps records with {found}, but times are checked against LogAppendTime: "
            "set message.timestamp.type=LogAppendTime on the topic"
        )


class DeliveryFailed(BraidError):
    """Kafka did not take records within the time that the producer tries again."""

    @classmethod
    def of(cls, bootstrap: str, failed: int, delivered: int, cause: str) -> Self:
        return cls(
            f"Kafka at {bootstrap} did not take {failed} records after {delivered} delivered ones ({cause}); "
            "`make status` shows what is up; the same command again sends the rest, what is there counts once"
        )


class ReplayRefused(BraidError):
    """Events sent again might be counted again."""

    @classmethod
    def not_covered(cls, days: Sequence[date], partition: int, first_offset: int, old_offset: int, topic: str) -> Self:
        others = f" and {len(days) - 1} more day(s)" if len(days) > 1 else ""
        return cls(
            f"events of {days[0]}{others} at offsets [{first_offset}, {old_offset}) of partition {partition} are too old "
            "for the speed layer, and no batch run has written a filter of them: until the next run it would count repeats "
            f"in {topic}; nothing was sent. TOPIC= sends them to another topic, SHIFT=now sends them as new events"
        )

    @classmethod
    def not_run(cls, partition: int, first_offset: int, old_offset: int, topic: str) -> Self:
        return cls(
            f"events at offsets [{first_offset}, {old_offset}) of partition {partition} are too old for the speed layer, "
            f"and no batch run covers them yet: until the next run it would count repeats in {topic}; nothing was sent. "
            "`make batch`, then the same command again"
        )


class SchemaMismatch(BraidError):
    """The database is from before views had versions, and holds one with other columns than the catalogue's."""

    @classmethod
    def of_view(cls, view: str, stored: set[str], declared: set[str]) -> Self:
        return cls(
            f"view {view} is stored with the columns {', '.join(sorted(stored))} but declared with "
            f"{', '.join(sorted(declared))}, and that database is older than versions of views; run `make up` with the "
            "stored definition once, then change it"
        )


class QueryRefused(BraidError):
    """The database refused a reader's statement; the text is the database's own."""

    @classmethod
    def by_database(cls, message: str) -> Self:
        return cls(message.strip().removeprefix("ERROR:  "))


class TimedOut(BraidError):
    """Something that should happen by itself did not happen, and nothing on the way to it."""

    @classmethod
    def waiting_for_speed(
        cls, partition: int, next_offset: int, wanted_offset: int, stood_s: float, in_the_way: str | None
    ) -> Self:
        reason = (
            f"{in_the_way}; all of it counts once that ends, `make transactions` names the producer"
            if in_the_way
            else "is the topology running? `make status`"
        )
        return cls(
            f"for {stood_s:.0f} s the speed layer has stood still at offset {next_offset} of partition {partition}, "
            f"{wanted_offset - next_offset} before {wanted_offset}; {reason}"
        )

    @classmethod
    def waiting_for_archive(cls, partition: int, next_offset: int, wanted_offset: int, stood_s: float) -> Self:
        return cls(
            f"for {stood_s:.0f} s the archive has stood still at offset {next_offset} of partition {partition}, and Kafka "
            f"has kept up to {wanted_offset} of the log that was read; is the archiver running? `make logs S=archiver`"
        )

    @classmethod
    def waiting_to_migrate(cls, waited_s: float, attempts: int) -> Self:
        return cls(
            f"the schema was not changed: queries or commits had it locked in all {attempts} attempts in {waited_s:.0f} s; "
            "`make up` tries again, `select * from pg_stat_activity` as superuser shows what lasts so long"
        )

    @classmethod
    def waiting_for_views(cls, view: str, last: str, stood_s: float) -> Self:
        return cls(
            f"for {stood_s:.0f} s nothing more has come, and view {view} has not both batch and speed rows ({last}); "
            "`make status` shows which server is down or which strand is behind"
        )

"""Where the engines' clients are used, and what is there instead while a world lives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from unittest.mock import patch

from tests.simulate.engines import Admin, HdfsClient, Spark
from tests.simulate.world import World


@contextmanager
def in_place(world: World) -> Iterator[None]:
    """The engines' clients are those of this world inside the block."""
    stand_ins = {
        "psycopg.connect": world.sessions.open,
        "ingest.archive_files.uuid.uuid4": lambda: SimpleNamespace(hex=f"{world.chance.getrandbits(128):032x}"),
        "ingest.forget.time": world.clock,
        "ingest.forget.now": world.clock.said,
        "ingest.forgotten_log.now": world.clock.said,
        "speed.range_spout.time": world.clock,
        "speed.reader.Consumer": world.consumer,
        "speed.reader.time": world.clock,
        "serving.log_check.Consumer": world.consumer,
        "serving.log_check.time": world.clock,
        "serving.progress.time": world.clock,
        "serving.resume.Consumer": world.consumer,
        "contract.webhdfs.InsecureClient": lambda *arguments, **options: HdfsClient(world.store),
        "batch.archive.time": world.clock,
        "batch.archive.Archive.read": lambda archive, path, first_byte=0: world.store.read(path, first_byte),
        "batch.job.context": lambda settings: Spark(world.chance),
        # Runs share this process's handlers here; interrupt() raises where Ctrl-C would.
        "batch.run.signal": SimpleNamespace(SIGINT=2, SIGTERM=15, signal=lambda number, handler: None),
        # It is no transaction that could be cut off, and changes no answer.
        "batch.run.vacuum": lambda connection: None,
        "contract.settings.Settings.from_env": lambda: world.settings,
    }
    asking = ("speed.range_spout", "speed.reader", "serving.gaps", "serving.log_ends", "serving.resume", "batch.cut")
    for module in (*asking, "batch.audit_logs"):
        stand_ins[f"{module}.AdminClient"] = lambda config: Admin(world.topic)
    with ExitStack() as stack:
        for place, stand_in in stand_ins.items():
            stack.enter_context(patch(place, stand_in))
        yield

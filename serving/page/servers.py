"""Which servers there are, whether each takes connections or is ready, and what a person is told when one is not."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from contract.settings import Settings
from serving.spark_page import SPARK_PAGE_PORT, is_standalone
from serving.status import NIMBUS_PORT

ANSWER_S = 2.0
_READY = "/readyz"


@dataclass(frozen=True)
class Server:
    """A server of the stack, and the port at which it listens.

    `status_name` is what `serving.status` calls it, if it asks it too; `without` is what does not go on without it; `path`
    is where it says over HTTP whether it is ready, as processes of ours do (contract/probes.py).
    """

    name: str
    service: str
    host: str
    port: int
    without: str
    status_name: str | None = None
    path: str | None = None

    def advice(self) -> list[str]:
        """Commands, the one that helps first."""
        return ["make up", f"make logs S={self.service}"]


def servers(settings: Settings) -> tuple[Server, ...]:
    """In the order of the data flow; those whose address a setting has are where it says."""
    kafka_host, _, kafka_port = settings.kafka_bootstrap.split(",")[0].rpartition(":")
    hdfs = urlsplit(settings.webhdfs_url)
    spark = urlsplit(settings.spark_master)
    no_batch = "no batch run computes; the views go on as they are"
    no_count = "nothing new is counted; what comes waits in Kafka, and is counted later"
    no_archive = "nothing new is archived; what comes waits in Kafka, and no batch run begins"
    found = [
        Server(
            "Kafka",
            "kafka",
            kafka_host,
            int(kafka_port or 9092),
            "no event is taken, so nobody knows what happens meanwhile; producers keep or lose what they have",
            "Kafka",
        ),
        Server("collector", "balancer", "balancer", 8000, "no event is taken over HTTP", path=_READY),
        Server("archiver", "archiver", "archiver", settings.metrics_port, no_archive, path=_READY),
        Server("HDFS NameNode", "namenode", hdfs.hostname or "", hdfs.port or 9870, no_archive, "HDFS NameNode"),
        Server("DataNode 1", "datanode-1", "datanode-1", 9866, "each block of the archive has one copy less"),
        Server("DataNode 2", "datanode-2", "datanode-2", 9866, "each block of the archive has one copy less"),
        Server("ZooKeeper", "zookeeper", "zookeeper", 2181, "Storm counts on, and does not start anything that ends"),
        Server(
            "Storm Nimbus",
            "nimbus",
            settings.nimbus_host,
            NIMBUS_PORT,
            "Storm counts on, and starts nothing elsewhere",
            "Storm Nimbus",
        ),
        # One of its processes answers for spout and bolts.
        Server("speed layer", "supervisor", "supervisor", settings.metrics_port, no_count, path=_READY),
        Server("Spark worker", "spark-worker", "spark-worker", 8081, no_batch),
        Server(
            "TimescaleDB",
            "timescaledb",
            settings.database_host,
            settings.database_port,
            "no question is answered; what comes waits in Kafka, and is counted later",
            "TimescaleDB",
        ),
    ]
    if is_standalone(settings):
        found.insert(
            -2, Server("Spark master", "spark-master", spark.hostname or "", SPARK_PAGE_PORT, no_batch, "Spark master")
        )
    return tuple(found)


class _Said(msgspec.Struct):
    """In the body of an answer that is no 200."""

    detail: str = ""


async def unanswered(server: Server) -> str | None:
    """Why it takes no connection, or is not ready; None if all is well."""
    try:
        async with asyncio.timeout(ANSWER_S):
            loop = asyncio.get_running_loop()
            await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
            reader, writer = await asyncio.open_connection(server.host, server.port)
            try:
                return None if server.path is None else await _not_ready(server, reader, writer)
            finally:
                writer.close()
    except socket.gaierror:
        return "its container does not run"
    except TimeoutError:
        return f"no answer within {ANSWER_S:g} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()


async def _not_ready(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str | None:
    writer.write(f"GET {server.path} HTTP/1.0\r\nHost: {server.host}\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0].decode("latin-1").split()
    # guard: who takes connections may not be ready
    if status[1:2] == ["200"]:
        return None
    try:
        said = msgspec.json.decode(body, type=_Said).detail
    except msgspec.MsgspecError:
        said = ""
    return f"not ready: {said or ' '.join(status[1:]) or 'no answer'}"


async def ask_all(every: tuple[Server, ...]) -> dict[str, str | None]:
    """By name, what each has to be said about it."""
    answers = await asyncio.gather(*map(unanswered, every))
    return {server.name: answer for server, answer in zip(every, answers, strict=True)}

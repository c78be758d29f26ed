"""Run in the stack: a server on the first core alone, clients on the others that send it batches of fifty events.

Arguments: collector or echo, topic, events/s or 0 for as many as it takes, seconds. With a rate, each batch has its moment,
and its latency counts from there, so that a server that falls behind is not asked less.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from statistics import quantiles

_BATCH = 50
_BATCHES = 400
_CLIENTS, _CLIENTS_AT_A_RATE = 16, 64
_WARM_UP_S = 2.0
_START_S = 60.0


def batches() -> list[bytes]:
    """Whole requests, with events as a server sends them."""
    now = datetime.now(UTC).isoformat()
    requests = []
    for batch in range(_BATCHES):
        events = [
            {
                "event_id": f"bench-{batch}-{number}",
                "event_time": now,
                "site": f"site-{number % 3}",
                "page": f"/articles/{batch * number % 997}?ref=newsletter",
                "visitor_id": f"{batch * 50 + number:032x}",
                "status": 200,
                "bytes_sent": 5_120 + number,
                "duration_ms": 12.5,
                "referrer": "https://www.example.com/",
                "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            }
            for number in range(_BATCH)
        ]
        body = json.dumps(events, separators=(",", ":")).encode()
        head = (
            f"POST /events HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


class Client:
    """A connection that stays."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> Client:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def send(self, request: bytes) -> None:
        """Returns with the answer; AssertionError if that is not 202."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 202"), head + await self._reader.read(1_000)
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)


async def flood(port: int, requests: Iterator[bytes], seconds: float) -> list[float]:
    """Latencies while each client sends as soon as it has its answer."""
    until, latencies = time.monotonic() + seconds, list[float]()

    async def send_on(client: Client) -> None:
        while (begun := time.monotonic()) < until:
            await client.send(next(requests))
            latencies.append(time.monotonic() - begun)

    await asyncio.gather(*[send_on(await Client(port).open()) for _ in range(_CLIENTS)])
    return latencies


async def keep_to(rate: float, port: int, requests: Iterator[bytes], seconds: float) -> list[float]:
    """Latencies at so many events/s, from the moment at which each batch was due."""
    begin, latencies = time.monotonic(), list[float]()
    moments = iter([begin + number * _BATCH / rate for number in range(int(seconds * rate / _BATCH))])

    async def send_on(client: Client) -> None:
        for moment in moments:
            await asyncio.sleep(max(0.0, moment - time.monotonic()))
            await client.send(next(requests))
            latencies.append(time.monotonic() - moment)

    await asyncio.gather(*[send_on(await Client(port).open()) for _ in range(_CLIENTS_AT_A_RATE)])
    return latencies


def cpu_s(pid: int) -> float:
    """What a process has used so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Its resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def wait_for(port: int) -> None:
    """Until it would take events."""
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                if connection.recv(12).endswith((b" 200", b" 202")):
                    return
        except OSError:
            pass
        assert time.monotonic() < deadline, "the server does not answer"
        time.sleep(0.1)


def main() -> None:
    kind, topic, rate, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    port = 8_100
    first, *others = sorted(os.sched_getaffinity(0))
    echo = ("-m", "uvicorn", "tests.bench.inside.echo:app", "--port", str(port), "--no-access-log", "--log-level", "warning")
    ours = ("-m", "ingest", "collect", "--port", str(port))
    environment = {**os.environ, "BRAID_TOPIC": topic, "BRAID_COLLECTOR_RATE": "0"}
    command = ["taskset", "-c", str(first), sys.executable, *(echo if kind == "echo" else ours)]
    server = subprocess.Popen(command, env=environment)
    os.sched_setaffinity(0, others or [first])
    try:
        wait_for(port)
        requests = cycle(batches())
        asyncio.run(flood(port, requests, _WARM_UP_S))
        before, began = cpu_s(server.pid), time.monotonic()
        latencies = asyncio.run(keep_to(rate, port, requests, seconds) if rate else flood(port, requests, seconds))
        took, used = time.monotonic() - began, cpu_s(server.pid) - before
        memory = memory_mb(server.pid)
    finally:
        server.terminate()
        server.wait()
    hundredths = quantiles(latencies, n=100)
    print(
        json.dumps(
            {
                "events": len(latencies) * _BATCH,
                "seconds": took,
                "cpu_s": used,
                "memory_mb": memory,
                "p50_ms": hundredths[49] * 1_000,
                "p99_ms": hundredths[98] * 1_000,
            }
        )
    )


if __name__ == "__main__":
    main()

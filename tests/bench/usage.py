"""CPU time and memory of a stack's containers, as the container engine accounts them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import docker
from requests.exceptions import JSONDecodeError

_NANOSECONDS = 1e9
_LOOK_S = 1.0
_MOST_CONTAINERS = 16
_CHECK_S = 6
_SERVICE = "com.docker.compose.service"


@dataclass
class Used:
    """By service, since the metering began: CPU time in seconds, and the most memory at once, without the page cache."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    memory_bytes: dict[str, int] = field(default_factory=dict)


class Containers:
    """The containers of a compose project, those that come and go included."""

    def __init__(self, project: str) -> None:
        self._client = docker.from_env()
        self._askers = ThreadPoolExecutor(_MOST_CONTAINERS)
        self._of_project = {"label": f"com.docker.compose.project={project}"}

    @contextmanager
    def metered(self) -> Iterator[Used]:
        """What they use within the block; it is complete when the block has ended."""
        used, stop = Used(), threading.Event()
        before = {container_id: cpu_s for container_id, (_, cpu_s, _) in self._stats().items()}
        last: dict[str, tuple[str, float]] = {}

        def look() -> None:
            memory: dict[str, int] = {}
            for container_id, (service, cpu_s, memory_bytes) in self._stats().items():
                last[container_id] = (service, cpu_s - before.get(container_id, 0.0))
                memory[service] = memory.get(service, 0) + memory_bytes
            for service, memory_bytes in memory.items():
                used.memory_bytes[service] = max(memory_bytes, used.memory_bytes.get(service, 0))

        def keep_looking() -> None:
            # A container that ends takes its account with it: what it used after the last look is lost.
            while not stop.wait(_LOOK_S):
                look()

        looking = threading.Thread(target=keep_looking, daemon=True)
        looking.start()
        try:
            yield used
        finally:
            stop.set()
            looking.join()
            look()
            for service, cpu_s in last.values():
                used.cpu_s[service] = used.cpu_s.get(service, 0.0) + cpu_s

    def memory_bytes(self) -> dict[str, int]:
        """By service what its containers hold now, without the page cache."""
        held: dict[str, int] = {}
        for service, _, memory_bytes in self._stats().values():
            held[service] = held.get(service, 0) + memory_bytes
        return held

    def _stats(self) -> dict[str, tuple[str, float, int]]:
        """Service, CPU seconds and memory of each running container, by its id."""
        containers = self._client.api.containers(filters=self._of_project)
        found: dict[str, tuple[str, float, int]] = {}
        # All at the same moment, or what the first ones use until the last one is asked would be in no account.
        for container, stats in zip(containers, self._askers.map(self._stats_of, containers), strict=True):
            if stats.get("memory_stats"):
                cpu_s = stats["cpu_stats"]["cpu_usage"]["total_usage"] / _NANOSECONDS
                found[container["Id"]] = (container["Labels"][_SERVICE], cpu_s, _resident_bytes(stats["memory_stats"]))
        return found

    def _stats_of(self, container: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            stats: Mapping[str, Any] = self._client.api.stats(container["Id"], stream=False, one_shot=True)
        except (docker.errors.APIError, JSONDecodeError):
            return {}  # it ended meanwhile, and the engine's answer says so or is empty
        return stats

    def stop(self, service: str) -> None:
        """Stop the service's containers."""
        for container in self._of(service):
            container.stop(timeout=2)

    def start(self, service: str) -> None:
        """Start the service's containers again."""
        for container in self._of(service):
            container.start()

    def is_healthy(self, service: str) -> bool:
        """Whether the service's own health check would say so now; the engine asks it every few seconds only."""
        (container,) = self._of(service)
        kind, *command = container.attrs["Config"]["Healthcheck"]["Test"]
        # A check that asks a server which is starting may hang, and the engine would give it up too.
        asked = command if kind == "CMD" else ["sh", "-c", *command]
        try:
            return bool(container.exec_run(["timeout", str(_CHECK_S), *asked]).exit_code == 0)
        except docker.errors.APIError:
            return False  # it is not up yet

    def _of(self, service: str) -> list[docker.models.containers.Container]:
        labels = [self._of_project["label"], f"{_SERVICE}={service}"]
        found: list[docker.models.containers.Container] = self._client.containers.list(all=True, filters={"label": labels})
        return found


def _resident_bytes(memory: Mapping[str, object]) -> int:
    """Both versions of cgroups count files that could be dropped; what remains is what nobody can take away."""
    stats = memory.get("stats")
    assert isinstance(stats, dict)
    return int(stats["rss"] if "rss" in stats else stats["anon"])

"""What can be done to a running stack: processes, containers, networks, disks and database sessions."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from serving.database import connect
from tests.fixtures.eventually import eventually
from tests.fixtures.stack import ROOT, Stack

_INSIDE = Path(__file__).parent / "inside"
_KILLED_WITH_ITS_CONTAINER = 137
_JOINED_WITHIN_S = 60
SERVERS = (
    *("kafka", "namenode", "datanode-1", "datanode-2", "archiver", "zookeeper", "nimbus", "supervisor"),
    *("spark-master", "spark-worker", "timescaledb"),
)
"""Without whom events are not counted, archived or computed, in the order of the data flow."""
BATCH = ("compose/engine", "compose", "run", "--rm", "-T", "--no-deps")


@dataclass(frozen=True)
class Faults:
    """Done through the engine's client alone: no rights on the host are needed."""

    stack: Stack
    project: str

    def signal(self, service: str, name: str, *processes: str) -> None:
        """Send a signal to a service's processes, as pkill chooses them. A container ends with its main process."""
        done = self._docker("exec", self.container(service), "pkill", f"-{name}", *processes, check=False)
        assert done.returncode in (0, _KILLED_WITH_ITS_CONTAINER), f"no process {processes} in {service}: {done.stderr}"

    def kill(self, service: str, *processes: str) -> None:
        """kill -9."""
        self.signal(service, "KILL", *processes)

    def processes(self, service: str, pattern: str) -> set[str]:
        """The ids of a service's processes with this text in their command line."""
        done = self._docker("exec", self.container(service), "pgrep", "-f", pattern, check=False)
        return set(done.stdout.split())

    def inside(self, service: str, *command: str, check: bool = True) -> str:
        """Standard output of a command in a service's container."""
        return self._docker("exec", self.container(service), *command, check=check).stdout

    def script(self, service: str, name: str) -> str:
        """Standard output of inside/<name>, run by the container's Python; it may end its own container."""
        program = (_INSIDE / name).read_text(encoding="utf-8")
        done = self._docker("exec", "-i", self.container(service), "python", "-", text=program, check=False)
        assert done.returncode in (0, _KILLED_WITH_ITS_CONTAINER), f"{name} in {service}: {done.stdout}{done.stderr}"
        return done.stdout

    def beside(self, service: str, name: str, *arguments: str) -> str:
        """Standard output of inside/<name>, run by Python on the volumes of a service that may be down, by their owner."""
        program = (_INSIDE / name).read_text(encoding="utf-8")
        helper = ("run", "--rm", "-i", "--network", "none", "--volumes-from", self.container(service))
        return self._docker(*helper, "--entrypoint", "python", f"{self.project}-app", "-", *arguments, text=program).stdout

    def lose_volume(self, *services: str) -> None:
        """kill -9 of the services and of whatever else has their volumes mounted; containers and volumes are gone then."""
        for service in services:
            volume = f"{self.project}_{service}"
            users = self._docker("ps", "--all", "--quiet", "--filter", f"volume={volume}").stdout.split()
            self._docker("rm", "--force", *users)
            self._docker("volume", "rm", volume)

    def started(self, *services: str) -> dict[str, str]:
        """When each service's container was last started."""
        return self._inspected("{{.State.StartedAt}}", services)

    def all_run(self, *services: str) -> None:
        """AssertionError unless each service's container runs."""
        others = {
            name: state for name, state in self._inspected("{{.State.Status}}", services).items() if state != "running"
        }
        assert not others, f"not running: {others}"

    def kill_and_keep_down(self, *services: str) -> None:
        """kill -9 of whole containers; the engine does not start again what it was told to kill."""
        self._docker("kill", "--signal", "KILL", *(self.container(service) for service in services))

    def start(self, *services: str) -> None:
        """What was kept down comes back."""
        self._docker("start", *(self.container(service) for service in services))

    @contextmanager
    def frozen(self, service: str) -> Iterator[None]:
        """Within the block no process of the service runs; its connections stay open, and nobody answers on them."""
        container = self.container(service)
        self._docker("pause", container)
        try:
            yield
        finally:
            self._docker("unpause", container)

    @contextmanager
    def partition(self, service: str, *peers: str) -> Iterator[None]:
        """Within the block no packet of the service reaches its peers; it is told nothing, and all else still works."""
        addresses = [address for peer in peers for address in self._addresses(peer)]
        self._neighbours(service, "cut", addresses)
        try:
            yield
        finally:
            # While its container is started anew there is no network of it.
            eventually(lambda: self._neighbours(service, "join", addresses), _JOINED_WITHIN_S)

    @contextmanager
    def full(self, *volumes: str) -> Iterator[None]:
        """Within the block the volumes of the ballast service (compose.yaml beside this file) have no byte left."""
        try:
            for volume in volumes:
                for block in ("1M", "4k"):
                    self.inside(
                        "ballast", "dd", "if=/dev/zero", f"of=/ballast/{volume}/ballast-{block}", f"bs={block}", check=False
                    )
            yield
        finally:
            self.inside("ballast", "find", "/ballast", "-maxdepth", "2", "-name", "ballast-*", "-delete")

    @contextmanager
    def own_clock(self, *services: str) -> Iterator[Callable[[int], None]]:
        """Within the block the Python processes of the services have a clock of their own (clock/).

        What is yielded sets it so many seconds ahead of the machine's. The containers are made anew at both ends.
        """
        images = ("compose/engine", "compose", "-f", "tests/drill/clock/compose.yaml")
        started = ("up", "--detach", "--no-deps", "--wait", *services)

        def set_clock(ahead_s: int) -> None:
            # Renamed, so that nobody reads half of it.
            command = f"echo {ahead_s} >/tmp/clock.new && mv /tmp/clock.new /tmp/clock"
            for service in services:
                self.inside(service, "sh", "-c", command)

        self.stack.run(*images, "build", *services)
        try:
            self.stack.run(*images, *started)
            yield set_clock
        finally:
            self.stack.run("compose/engine", "compose", *started)

    @contextmanager
    def held(self, statement: str, *parameters: Any) -> Iterator[None]:
        """Within the block a transaction holds the locks that the statement takes; it leaves nothing behind."""
        with connect(self.stack.settings, "postgres") as connection, connection.transaction(force_rollback=True):
            connection.execute(statement, parameters)  # type: ignore[arg-type]
            yield

    def owner_asks(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a statement that readers may not ask."""
        return self.stack.ask(query, role="postgres")

    def hdfs(self, bean: str) -> dict[str, Any]:
        """What the NameNode says of itself. AssertionError while it is starting and has nothing to say, RequestException."""
        page = requests.get(f"{self.stack.settings.webhdfs_url}/jmx?qry=Hadoop:service=NameNode,name={bean}", timeout=5)
        beans: list[dict[str, Any]] = page.json()["beans"]
        assert beans, f"the NameNode says nothing of {bean} yet"
        return beans[0]

    def container(self, service: str) -> str:
        """The id of a service's container."""
        labels = (
            f"label=com.docker.compose.{key}={value}" for key, value in (("project", self.project), ("service", service))
        )
        filters = [word for label in labels for word in ("--filter", label)]
        containers = self._docker("ps", "--all", "--quiet", *filters, "--filter", "label=com.docker.compose.oneoff=False")
        assert containers.stdout.split(), f"project {self.project} has no container of service {service}"
        return containers.stdout.split()[0]

    def _inspected(self, template: str, services: Sequence[str]) -> dict[str, str]:
        return {
            service: self._docker("inspect", "--format", template, self.container(service)).stdout.strip()
            for service in services
        }

    def _addresses(self, service: str) -> list[str]:
        networks = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
        return self._docker("inspect", "--format", networks, self.container(service)).stdout.split()

    def _neighbours(self, service: str, verb: str, addresses: Sequence[str]) -> None:
        # Root with one capability, in a container that lives for this and shares nothing but the network.
        helper = ("run", "--rm", "-i", "--user", "0", "--cap-drop", "ALL", "--cap-add", "NET_ADMIN")
        place = ("--network", f"container:{self.container(service)}", "--entrypoint", "python", f"{self.project}-app")
        program = (_INSIDE / "neighbours.py").read_text(encoding="utf-8")
        self._docker(*helper, *place, "-", verb, *addresses, text=program)

    def _docker(self, *arguments: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.stack.run("compose/engine", "docker", *arguments, text=text, check=check)


class BatchRun:
    """A batch run in the background."""

    def __init__(self, faults: Faults) -> None:
        self._faults, self._container = faults, f"{faults.project}-batch-{uuid.uuid4().hex[:6]}"
        self._process = subprocess.Popen(
            [*BATCH, "--name", self._container, "batch"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def has_ended(self) -> bool:
        """Whether its container is gone."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """kill -9 of the driver."""
        self._faults._docker("kill", "--signal", "KILL", self._container)
        self._process.communicate()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within the block the driver does not run; its connections stay open."""
        self._faults._docker("pause", self._container)
        try:
            yield
        finally:
            self._faults._docker("unpause", self._container)

    def finish(self, within_s: float | None = None) -> tuple[int, str]:
        """Exit code and all that was said. AssertionError if it takes longer, and the driver is killed then."""
        try:
            said, _ = self._process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired as error:
            self._faults._docker("kill", "--signal", "KILL", self._container, check=False)
            said, _ = self._process.communicate()
            raise AssertionError(f"a batch run did not end within {within_s:.0f} s; it said: {said[-500:]}") from error
        return self._process.returncode, said

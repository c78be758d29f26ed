"""What bolts that write to the database have in common: one connection, opened when it is needed."""

from __future__ import annotations

from typing import Any

from streamparse import Bolt

from contract.settings import Settings
from serving.database import Connection, connect
from speed.logs import speak
from speed.metrics import of_task


class DatabaseBolt(Bolt):
    """A bolt with `settings`, `metrics`, and a connection of role speed that lasts until something goes wrong with it."""

    def initialize(self, storm_conf: dict[str, Any], context: dict[str, Any]) -> None:
        self.settings = Settings.from_env()
        self.metrics = of_task(context, self.settings.metrics_port)
        speak(context, self.settings)
        self._connection: Connection | None = None

    def database(self) -> Connection:
        """The connection; raises EngineUnavailable."""
        if self._connection is None:
            self._connection = connect(self.settings, "speed")
        return self._connection

    def disconnect(self) -> None:
        """The next use of the database is on a new connection, since nobody knows what this one's last call has done."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

"""The bolt that merges the rows which commits appended. It keeps no state, and only the speed of reads depends on it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import psycopg
from pystorm.component import Tuple
from streamparse import Bolt

from contract.errors import BraidError
from contract.settings import Settings
from serving.database import connect
from serving.handoff import merge_appended


class MergeBolt(Bolt):
    auto_anchor = False

    def initialize(self, storm_conf: dict[str, Any], context: dict[str, Any]) -> None:
        self._settings = Settings.from_env()
        self._appended: Counter[int] = Counter()
        self._connection: psycopg.Connection[Any] | None = None

    def process(self, tup: Tuple) -> None:
        """Merge the rows of a partition once enough were appended; what cannot be merged now is merged with later ones."""
        partition, rows = tup.values
        self._appended[partition] += rows
        if self._appended[partition] < self._settings.speed_merge_rows:
            return
        self._appended[partition] = 0
        try:
            if self._connection is None:
                self._connection = connect(self._settings, "speed")
            merge_appended(self._connection, partition, self._settings.speed_merge_rows)
        except (psycopg.Error, BraidError) as error:
            self.logger.warning("rows of partition %s are not merged now: %s", partition, error)
            if self._connection is not None:
                self._connection.close()
                self._connection = None

"""The bolt that merges the rows which commits appended. It keeps no state, and only the speed of reads depends on it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import psycopg
from pystorm.component import Tuple

from contract.errors import BraidError
from serving.handoff import merge_appended
from speed.database_bolt import DatabaseBolt


class MergeBolt(DatabaseBolt):
    auto_anchor = False

    def initialize(self, storm_conf: dict[str, Any], context: dict[str, Any]) -> None:
        super().initialize(storm_conf, context)
        self._appended: Counter[int] = Counter()

    def process(self, tup: Tuple) -> None:
        """Merge the rows of a partition once enough were appended; what cannot be merged now is merged with later ones."""
        partition, rows = tup.values
        self._appended[partition] += rows
        if self._appended[partition] < self.settings.speed_merge_rows:
            return
        self._appended[partition] = 0
        try:
            merge_appended(self.database(), partition, self.settings.speed_merge_rows)
        except (psycopg.Error, BraidError) as error:
            self.logger.warning("rows of partition %s are not merged now: %s", partition, error)
            self.disconnect()

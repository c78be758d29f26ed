"""The bolt that merges the rows which commits appended. It keeps no state, and only the speed of reads depends on it."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import psycopg
from pystorm.component import Tuple

from contract.errors import BraidError
from serving.handoff import MERGED_ROWS, merge_appended
from speed.database_bolt import DatabaseBolt

# Well below topology.subprocess.timeout.secs (topology.py), after which Storm ends a worker whose bolt is silent.
_PATIENCE_S = 10


class MergeBolt(DatabaseBolt):
    auto_anchor = False

    def initialize(self, storm_conf: dict[str, Any], context: dict[str, Any]) -> None:
        super().initialize(storm_conf, context)
        self._appended: Counter[int] = Counter()

    def process(self, tup: Tuple) -> None:
        """Merge the rows of a partition once enough were appended; what cannot be merged now is merged with later ones."""
        partition, rows = tup.values
        enough = self.settings.speed_merge_rows
        self._appended[partition] += rows
        if self._appended[partition] < enough:
            return
        self._appended[partition] = 0
        give_up_s = time.monotonic() + _PATIENCE_S
        try:
            while (merged := merge_appended(self.database(), partition, enough)) in (None, MERGED_ROWS):
                self.metrics.merged(partition, merged or 0)
                if merged is None or time.monotonic() > give_up_s:
                    # The next commit of the partition goes on with it.
                    self._appended[partition] = enough
                    break
        except (psycopg.Error, BraidError) as error:
            self.logger.warning("rows of partition %s are not merged now: %s", partition, error)
            self.disconnect()

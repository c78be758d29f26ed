"""One OpenLineage event a run: from which files which views were made, how it ended, and how many records that took.

It is told when the run has ended, and no run fails for it. Its run id is the correlation id of all that the run logs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import pyspark
from hdfs import InsecureClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState, set_producer
from openlineage.client.facet_v2 import (
    error_message_run,
    input_statistics_input_dataset,
    job_type_job,
    nominal_time_run,
    processing_engine_run,
    tags_run,
)
from openlineage.client.serde import Serde
from openlineage.client.transport.http import HttpConfig, HttpTransport

from batch.run import Done
from batch.watch import Watch
from contract.master import MASTER
from contract.settings import Settings
from contract.views import VIEWS, with_rollups

_USER = "braid"
_ANSWER_S = 5.0
FOLDER = "lineage"
"""Below the archive's root; a file a run."""

set_producer("urn:braid")


class Lineage:
    """Tells of the run within the block, as far as `watch` has seen it; `done` is set to what it was, if it ended well."""

    def __init__(self, settings: Settings, correlation_id: str, watch: Watch, say: Callable[[str], None]) -> None:
        self._settings, self._id, self._watch, self._say = settings, correlation_id, watch, say
        self._began_at = datetime.now(UTC)
        self.done: Done | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run_id = self._watch.run_id
        if not run_id:
            return
        told = self.event(run_id, error)
        # guard: no run fails because nobody hears of it
        try:
            self._tell(f"{run_id:08}-{self._id}.json", told)
        except Exception as problem:
            self._say(f"run {run_id}: its OpenLineage event was not told: {problem}")

    def event(self, run_id: int, error: BaseException | None) -> RunEvent:
        """What is to be told of a run that has ended, by this error if any."""
        ended_at = datetime.now(UTC)
        done, settings = self.done, self._settings
        tags = {"run_id": str(run_id)} | ({"kind": done.kind, "days": str(done.days)} if done else {})
        facets = {
            "nominalTime": nominal_time_run.NominalTimeRunFacet(_text(self._began_at), _text(ended_at)),
            "processing_engine": processing_engine_run.ProcessingEngineRunFacet(pyspark.__version__, "spark"),
            "tags": tags_run.TagsRunFacet([tags_run.TagsRunFacetFields(*pair, source="BRAID") for pair in tags.items()]),
        }
        if error is not None:
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
                str(error) or type(error).__name__, "python", None
            )
        database = f"postgres://{settings.database_host}:{settings.database_port}"
        return RunEvent(
            eventTime=_text(ended_at),
            eventType=self._ended(error),
            run=Run(self._id, facets),
            job=Job("braid", "batch", {"jobType": job_type_job.JobTypeJobFacet("BATCH", "BRAID", "JOB")}),
            inputs=[
                InputDataset(
                    settings.hdfs_url,
                    f"{settings.archive_root}/{MASTER}",
                    inputFacets={
                        "inputStatistics": input_statistics_input_dataset.InputStatisticsInputDatasetFacet(done.received)
                    }
                    if done
                    else {},
                )
            ],
            outputs=[
                OutputDataset(database, f"{settings.database_name}.public.{view.name}") for view in with_rollups(VIEWS)
            ],
        )

    def _ended(self, error: BaseException | None) -> RunState:
        # What came after the publication changes nothing for readers.
        if error is None or self._watch.is_published:
            return RunState.COMPLETE
        return RunState.ABORT if isinstance(error, KeyboardInterrupt) else RunState.FAIL

    def _tell(self, name: str, told: RunEvent) -> None:
        settings = self._settings
        if settings.lineage_url:
            HttpTransport(HttpConfig(settings.lineage_url, timeout=_ANSWER_S, retry={"total": 1})).emit(told)
            return
        client = InsecureClient(settings.webhdfs_url, user=_USER, timeout=_ANSWER_S)
        client.write(f"{settings.archive_root}/{FOLDER}/{name}", data=Serde.to_json(told), encoding="utf-8", overwrite=True)


def _text(at: datetime) -> str:
    return at.isoformat()

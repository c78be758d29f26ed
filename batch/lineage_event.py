"""The OpenLineage event of a run: from which files which views were made, how it ended, and how many records that took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pyspark
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
from contract import webhdfs
from contract.master import MASTER
from contract.settings import Settings
from contract.views import VIEWS, with_rollups

_ANSWER_S = 20.0
_FOLDER = "lineage"
"""Below the archive's root; a file a run."""

set_producer("urn:braid")


@dataclass(frozen=True)
class Ended:
    """A run that has ended: well if there is no `error`; `is_published` says whether readers see its rows."""

    run_id: int
    correlation_id: str
    began_at: datetime
    is_published: bool
    done: Done | None = None
    error: BaseException | None = None

    @property
    def state(self) -> RunState:
        """What became of the views: what failed after the publication changes nothing for readers."""
        if self.error is None or self.is_published:
            return RunState.COMPLETE
        return RunState.ABORT if isinstance(self.error, KeyboardInterrupt) else RunState.FAIL


def tell(settings: Settings, ended: Ended) -> None:
    """Post the event where the settings say, or make it a file on HDFS. Raises what the clients raise."""
    told = event(settings, ended)
    if settings.lineage_url:
        HttpTransport(HttpConfig(settings.lineage_url, timeout=_ANSWER_S, retry={"total": 1})).emit(told)
        return
    client = webhdfs.connect(settings.webhdfs_url, _ANSWER_S)
    path = f"{settings.archive_root}/{_FOLDER}/{ended.run_id:08}-{ended.correlation_id}.json"
    client.write(path, data=Serde.to_json(told), encoding="utf-8", overwrite=True)


def event(settings: Settings, ended: Ended) -> RunEvent:
    """What is told of the run."""
    done, now = ended.done, datetime.now(UTC).isoformat()
    tags = {"run_id": str(ended.run_id)} | ({"kind": done.kind, "days": str(done.days)} if done else {})
    facets = {
        "nominalTime": nominal_time_run.NominalTimeRunFacet(ended.began_at.isoformat(), now),
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(pyspark.__version__, "spark"),
        "tags": tags_run.TagsRunFacet([tags_run.TagsRunFacetFields(*pair, source="BRAID") for pair in tags.items()]),
    }
    if (error := ended.error) is not None:
        message = str(error) or type(error).__name__
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message, "python", None)
    read = {}
    if done:
        read["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(done.received)
    database = f"postgres://{settings.database_host}:{settings.database_port}"
    return RunEvent(
        eventTime=now,
        eventType=ended.state,
        run=Run(ended.correlation_id, facets),
        job=Job("braid", "batch", {"jobType": job_type_job.JobTypeJobFacet("BATCH", "BRAID", "JOB")}),
        inputs=[InputDataset(settings.hdfs_url, f"{settings.archive_root}/{MASTER}", inputFacets=read)],
        outputs=[OutputDataset(database, f"{settings.database_name}.public.{view.name}") for view in with_rollups(VIEWS)],
    )

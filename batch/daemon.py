"""Python workers of Spark are forked from this process, which has imported once what each would take a second to import.

A fork has none of the threads of its parent, so nothing may be imported here that starts one: not Polars, nor Arrow.
Spark is told to start this module by spark.python.daemon.module.
"""

from __future__ import annotations

import gc
from typing import BinaryIO

import hdfs
import psycopg
import pyspark.worker
import requests
from pyspark.daemon import manager

from contract.loops import bloom, grouping, histogram, murmur

__all__ = ["bloom", "grouping", "hdfs", "histogram", "murmur", "psycopg", "pyspark", "requests"]

_run_task = pyspark.worker.main


def run_task(received: BinaryIO, sent: BinaryIO) -> None:
    """What PySpark does with a task. The collector of garbage is not to look through what was there before the task.

    PySpark lets it run after each task, so what is left then are modules; to look through those takes 50 to 140 ms.
    """
    gc.freeze()
    _run_task(received, sent)


if __name__ == "__main__":
    pyspark.worker.main = run_task
    manager()

"""Python workers of Spark are forked from this process, which has imported once what each would take a second to import.

A fork has none of the threads of its parent, so nothing may be imported here that starts one: not Polars, nor Arrow.
Spark is told to start this module by spark.python.daemon.module.
"""

from __future__ import annotations

import gc

import hdfs
import psycopg
import pyspark.worker
import requests
from pyspark.daemon import manager

from contract.loops import bloom, grouping, histogram, murmur

__all__ = ["bloom", "grouping", "hdfs", "histogram", "murmur", "psycopg", "pyspark", "requests"]

if __name__ == "__main__":
    # A worker collects garbage after each task. Of what is imported there is none, and to look through it takes 0.14 s.
    gc.freeze()
    manager()

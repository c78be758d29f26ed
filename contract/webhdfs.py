"""HDFS by HTTP, as each layer asks it: as one user, and with one request for a listing."""

from __future__ import annotations

from typing import Any

from hdfs import HdfsError, InsecureClient

USER = "braid"
"""Whose the master dataset is."""


def connect(url: str, timeout_s: float | tuple[float, float]) -> InsecureClient:
    """A client of the NameNode at `url`, which asks nothing yet. `timeout_s`: of each request, or to connect and to read."""
    return InsecureClient(url, user=USER, timeout=timeout_s)


def entries(client: InsecureClient, folder: str) -> dict[str, dict[str, Any]]:
    """HDFS's status of what is in a folder, by name; nothing if there is no such folder. Raises what the client raises."""
    try:
        return dict(client.list(folder, status=True))
    except HdfsError as error:
        if error.exception == "FileNotFoundException":
            return {}
        raise

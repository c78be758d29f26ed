"""Servers that have no log-in of their own take nothing from who should not send them anything."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from urllib.parse import urlsplit

import pytest
import requests

from contract.settings import Settings

_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:149.0) Gecko/20100101 Firefox/149.0"
_MKDIRS = {"op": "MKDIRS", "user.name": "braid"}
_DRIVER = "from pyspark import SparkConf, SparkContext; SparkContext(conf=SparkConf().setMaster('{}').setAppName('test'))"


def is_open(host: str, port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(10)
        return one.connect_ex((host, port)) == 0


def test_the_port_for_submissions_that_nobody_authenticates_is_closed():
    master = urlsplit(Settings.from_env().spark_master)
    host, port = str(master.hostname), int(master.port or 0)
    assert is_open(host, port)
    assert not is_open(host, 6066)


@pytest.mark.long
def test_a_driver_without_the_key_is_not_taken():
    # Spark tries for a minute.
    driver = subprocess.run(
        [sys.executable, "-c", _DRIVER.format(Settings.from_env().spark_master)],
        env={**os.environ, "_SPARK_AUTH_SECRET": "another"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert driver.returncode != 0
    assert "All masters are unresponsive" in driver.stderr


@pytest.mark.parametrize(("agent", "status"), [(_BROWSER, 400), ("curl/8.14.1", 200)])
def test_a_page_of_another_site_makes_no_browser_write_to_hdfs(agent: str, status: int):
    folder = f"{Settings.from_env().webhdfs_url}/webhdfs/v1/tmp/{uuid.uuid4().hex}"
    headers = {"User-Agent": agent}
    assert (
        requests.put(folder, params={"op": "MKDIRS", "user.name": "braid"}, headers=headers, timeout=30).status_code
        == status
    )
    found = requests.get(folder, params={"op": "GETFILESTATUS"}, headers=headers, timeout=30).status_code
    assert found == (200 if status == 200 else 404)
    requests.delete(folder, params={"op": "DELETE", "user.name": "braid"}, timeout=30)

"""What the page takes from compose.yaml, and what it says of the services there."""

from __future__ import annotations

from pathlib import Path

from contract.settings import Settings
from serving.page.budgets import memory_limits
from serving.page.servers import servers
from tests.fixtures.status import SERVERS
from tests.fixtures.yaml_file import yaml_of

FILE = Path(__file__).resolve().parents[2] / "compose" / "compose.yaml"


def test_every_server_is_a_service_of_compose():
    assert {server.service for server in servers(Settings())} <= yaml_of(FILE)["services"].keys()
    assert {server.status_name for server in servers(Settings())} - {None} == set(SERVERS)


def test_every_container_that_stays_has_its_limit():
    limits = memory_limits(FILE, {"SPARK_WORKER_LIMIT": "3g", "BRAID_COLLECTORS": "2", "METRICS": ""})
    assert limits["kafka"] == 832 << 20
    assert limits["datanode-2"] == limits["datanode-1"]
    assert limits["spark-worker"] == 3 << 30
    assert limits["collector"] == 2 * (512 << 20)
    assert "page" in limits
    assert "topic" not in limits
    assert "prometheus" not in limits
    defaults = memory_limits(FILE, {"SPARK_WORKER_LIMIT": "", "BRAID_COLLECTORS": ""})
    assert defaults["spark-worker"] == 2_048 << 20
    with_metrics = memory_limits(FILE, {"METRICS": "1"})
    assert with_metrics.keys() - defaults.keys() == {"exporter", "postgres-exporter", "prometheus"}


def test_the_page_is_told_every_variable_that_its_limits_follow():
    page = yaml_of(FILE)["services"]["page"]
    told = {option.removeprefix("--set=").partition("=")[0] for option in page["command"]}
    assert told == {"SPARK_WORKER_LIMIT", "BRAID_COLLECTORS", "METRICS"}

"""Rules, dashboard and docs name metrics that there are, and the docs name each rule and each metric of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from ingest.archive_metrics import ArchiveMetrics
from ingest.collector.metrics import CollectorMetrics
from serving.exporter import Exporter
from speed.metrics import SpeedMetrics
from tests.alerts.causes import CAUSES
from tests.fixtures.status import FACTS, WELL
from tests.fixtures.yaml_file import yaml_of
from tests.unit.test_docs import ROOT, TARGETS

CONF = ROOT / "compose" / "conf"
RULES: list[dict[str, Any]] = [
    rule for group in yaml_of(CONF / "prometheus" / "alerts.yml")["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"] for rule in RULES}
DASHBOARD = (CONF / "grafana" / "dashboards" / "braid.json").read_text(encoding="utf-8")
DOCS = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
PARTS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


@pytest.fixture(scope="module")
def ours() -> list[Metric]:
    """Every metric of every process of ours."""
    registry = CollectorRegistry()
    ArchiveMetrics(registry)
    CollectorMetrics(lambda: False, registry)
    exporter = Exporter(lambda: WELL, lambda: FACTS)
    exporter.refresh()
    registry.register(exporter)
    of_speed = [metric for value in vars(SpeedMetrics()).values() for metric in value.collect()]
    return [*registry.collect(), *of_speed]


def series(families: Iterable[Metric]) -> set[str]:
    """As rules name them: a counter by its total, a histogram by its parts."""
    return {family.name + part for family in families for part in PARTS.get(family.type, ("",))}


def test_what_rules_and_dashboard_ask_for_is_there(ours: list[Metric]):
    for text in (json.dumps(RULES), DASHBOARD):
        asked = set(re.findall(r"\bbraid_[a-z_]+", text))
        assert len(asked) > 15
        assert asked - series(ours) == set()


def test_the_docs_have_each_metric_and_no_other(ours: list[Metric]):
    wanted = {family.name + ("_total" if family.type == "counter" else "") for family in ours}
    assert set(re.findall(r"`(braid_[a-z_]+)`", DOCS)) == wanted


def test_each_rule_says_what_is_wrong_and_the_next_command():
    assert len(ALERTS) == len(RULES) >= 15
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "runbook"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        runbook = rule["annotations"]["runbook"]
        commands = set(re.findall(r"`make (?:-C <this folder> )?([a-z-]+)", runbook))
        assert commands, rule["alert"]
        assert commands <= TARGETS
        assert f"| `{rule['alert']}` |" in DOCS


def test_each_rule_has_a_unit_test_that_sees_it_fire_and_one_that_sees_it_silent():
    tests = yaml_of(ROOT / "tests" / "alerts" / "alerts_test.yml")["tests"]
    cases = [case for test in tests for case in test["promql_expr_test"]]
    for fires in (True, False):
        asked = " ".join(case["expr"] for case in cases if bool(case["exp_samples"]) == fires)
        assert set(re.findall(r'alertname="(\w+)"', asked)) == ALERTS


def test_each_rule_is_made_to_fire_on_a_real_stack():
    assert sorted(alert for cause in CAUSES for alert in cause.alerts) == sorted(ALERTS)


def test_panels_have_a_title_and_ask_something_of_a_source_that_is_provisioned():
    sources = yaml_of(CONF / "grafana" / "provisioning" / "datasources" / "braid.yml")["datasources"]
    panels = [panel for panel in json.loads(DASHBOARD)["panels"] if panel["type"] != "row"]
    assert len({panel["title"] for panel in panels}) == len(panels) > 20
    for panel in panels:
        assert panel["datasource"]["uid"] in {source["uid"] for source in sources}
        assert all(target.get("expr") or target.get("rawSql") for target in panel["targets"])


def test_prometheus_asks_each_process_of_ours_and_servers_that_are_there():
    config = yaml_of(CONF / "prometheus" / "prometheus.yml")["scrape_configs"]
    assert {job["job_name"] for job in config} >= {"archiver", "speed", "page", "exporter", "collector"}
    services = yaml_of(ROOT / "compose" / "compose.yaml")["services"]
    targets = [target for job in config for static in job.get("static_configs", ()) for target in static["targets"]]
    hosts = {target.partition(":")[0] for target in targets} - {"127.0.0.1"}
    assert hosts <= services.keys()

"""Docs are tested: what they name exists, and what exists is named."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from contract.event import REASONS, json_schema
from contract.settings import Settings
from contract.views import VIEWS, with_rollups

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
# Read by compose, not by our code.
COMPOSE_ONLY = {
    *("COMPOSE_PROJECT_NAME", "SPARK_WORKER_CORES", "SPARK_WORKER_MEMORY", "SPARK_WORKER_LIMIT"),
    *("BRAID_COLLECTORS", "BRAID_COLLECTOR_BALANCE", "AUTOSCALE", "AUTOSCALE_COLLECTORS", "AUTOSCALE_SPARK_WORKERS"),
    "METRICS",
}


def test_the_json_schema_is_the_codes():
    stored = json.loads((ROOT / "docs" / "event.schema.json").read_text(encoding="utf-8"))
    # Made by: python -c 'import json; from contract.event import json_schema; print(json.dumps(json_schema(), indent=2))'
    assert stored == json_schema()


def test_every_setting_is_in_env_example_with_its_default_and_reason():
    text = (ROOT / "compose" / ".env.example").read_text(encoding="utf-8")
    entries = {name: (reason, value) for reason, name, value in re.findall(r"^# (.+)\n#([A-Z_]+)=(.*)$", text, re.MULTILINE)}
    settings = {s.metadata["variable"]: (s.metadata["reason"], s.default) for s in fields(Settings)}
    assert set(entries) - COMPOSE_ONLY == set(settings)
    for name, (reason, default) in settings.items():
        assert entries[name][0] == reason, name
        assert type(default)(entries[name][1]) == default, name


def test_every_setting_reaches_the_containers():
    text = (ROOT / "compose" / "compose.yaml").read_text(encoding="utf-8")
    assert [s.metadata["variable"] for s in fields(Settings) if f"{s.metadata['variable']}:" not in text] == []


def test_make_lists_every_target():
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == TARGETS


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.name)
def test_make_commands_and_links_in_docs_exist(doc: Path):
    text = doc.read_text(encoding="utf-8")
    assert set(re.findall(r"(?:`|^ {4})make ([a-z][a-z-]*)", text, re.MULTILINE)) <= TARGETS
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (doc.parent / link).exists(), link


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.name)
def test_no_line_of_prose_is_longer_than_120_characters(doc: Path):
    # A row of a table cannot be broken, nor can what is code.
    prose = re.sub(
        r"^```.*?^```|^ {4,}\S.*?$|^ *\|.*?$", "", doc.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    assert [line for line in prose.splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.name)
def test_a_link_to_a_heading_finds_it(doc: Path):
    for file, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", doc.read_text(encoding="utf-8")):
        other = doc.parent / file if file else doc
        headings = re.findall(r"^#+ (.+)$", other.read_text(encoding="utf-8"), re.MULTILINE)
        # As GitHub makes them.
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in anchors, f"{file}#{anchor}"


def test_decisions_are_newest_first_and_name_what_replaces_them():
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    entries = re.findall(r"^## (\d+)\. .+\n\n(.+)$", text, re.MULTILINE)
    numbers = [int(number) for number, _ in entries]
    assert len(numbers) == text.count("\n## ") > 100
    assert numbers == sorted(set(numbers), reverse=True)
    marked = [(int(number), first) for number, first in entries if first.startswith("*Replaced")]
    assert len(marked) > 10
    for number, first in marked:
        by = re.fullmatch(r"\*Replaced (?:by|in part by) (\d+)(?: and (\d+))?[.:].*\*", first)
        assert by, first
        assert all(int(one) in numbers and int(one) > number for one in by.groups() if one), first


def test_sections_of_operations_that_messages_name_are_there():
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    headings = {heading.lower() for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    layers = ("contract", "ingest", "speed", "batch", "serving", "tests")
    sources = [path for layer in layers for path in sorted((ROOT / layer).rglob("*.py"))]
    named = set()
    for path in (*sources, ROOT / "compose" / "conf" / "prometheus" / "alerts.yml"):
        source = path.read_text(encoding="utf-8")
        named |= {name.lower() for name in re.findall(r"docs/operations\.md, '([^']+)'", source)}
        named |= {name.lower() for name in re.findall(r"'([^'\n]+)' in docs/operations\.md", source)}
    assert len(named) > 8
    assert sorted(named - headings) == []


def test_the_readme_knows_every_view_and_service():
    assert [view.name for view in with_rollups(VIEWS) if f"`{view.name}`" not in README] == []
    compose = (ROOT / "compose" / "compose.yaml").read_text(encoding="utf-8")
    services = re.findall(
        r"^  ([a-z0-9-]+): ?(?:&\w+)?(?: #.*)?$", compose.split("\nservices:")[1].split("\nnetworks:")[0], re.MULTILINE
    )
    one_shots = {"topic", "topology", "schema", "batch", "tools", "tests", "browser"}
    assert len(services) > 15
    assert [service for service in services if service not in one_shots and service not in README] == []


def test_the_clients_in_the_docs_are_those_that_the_finding_tries():
    finding = (ROOT / "findings" / "clients-send-one-key-to-different-partitions.sh").read_text(encoding="utf-8")
    text = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8").partition("## Clients of SQL")[0]
    rows = re.findall(r"^\| [A-Za-z].*? \| ([0-9.]+) \| .*? \| (.*?) ?\|$", text, re.MULTILINE)
    assert len(rows) == 9
    assert [version for version, _ in rows if version not in finding] == []
    settings = {setting for _, cell in rows for setting in re.findall(r"(murmur2_random|New\w+|Murmur2\w+)", cell)}
    assert settings == {"murmur2_random", "NewMurmur2Partitioner", "Murmur2Balancer"}
    assert [setting for setting in settings if setting not in README or setting not in finding] == []


def test_every_reason_of_the_quarantine_is_explained():
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for reason, meaning in REASONS.items():
        assert f"| `{reason}` | {meaning} |" in text


def test_lock_files_have_hashes_and_no_addresses():
    for lock in ROOT.glob("requirements*.lock"):
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text
        assert text.count("==") <= text.count(" \\\n")


def test_every_container_has_a_memory_limit_and_every_java_process_ends_when_its_heap_is_full():
    compose = (ROOT / "compose" / "compose.yaml").read_text(encoding="utf-8")
    services = re.split(r"^  (?=[a-z0-9-]+:)", compose.split("\nservices:")[1].split("\nnetworks:")[0], flags=re.MULTILINE)[
        1:
    ]
    assert len(services) > 15
    # An alias has its anchor's.
    without = [text.partition(":")[0] for text in services if "mem_limit:" not in text and "<<: *datanode" not in text]
    assert without == []
    places = [
        *(ROOT / "compose" / "images").glob("*/start"),
        *(ROOT / "compose" / "conf").glob("s*/*.*"),
        ROOT / "compose" / "compose.yaml",
    ]
    lines = [line for place in places for line in place.read_text(encoding="utf-8").splitlines()]
    starts = [
        line for line in lines if re.search(r"java=\(|exec java|childopts|extraJavaOptions|SPARK_DAEMON_JAVA_OPTS", line)
    ]
    assert len(starts) == 10
    assert [line for line in starts if "ExitOnOutOfMemoryError" not in line] == []

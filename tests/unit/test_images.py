"""What builds the images behaves where it is tried without an engine."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.fixtures.stack import ROOT


@pytest.fixture
def maven(tmp_path: Path) -> Path:
    """A Maven that says what it was called with, and the settings that it was given."""
    fake = tmp_path / "mvn"
    fake.write_text('#!/bin/sh\necho "$@"\nif [ "$1" = --settings ]; then cat "$2"; fi\nexit 3\n')
    fake.chmod(0o755)
    return fake


def run(maven: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "MAVEN": str(maven), "TMPDIR": str(maven.parent), **variables}
    command = [ROOT / "compose" / "images" / "maven" / "mvn", "-q", "verify"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_maven_without_a_proxy_is_maven(maven: Path):
    assert (run(maven).stdout, run(maven).returncode) == ("-q verify\n", 3)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ("http://proxy.example:3128", ("proxy.example", "3128", None, None)),
        ("proxy.example:3128/", ("proxy.example", "3128", None, None)),
        ("http://10.0.0.1", ("10.0.0.1", "80", None, None)),
        ("http://me:a<b&c@proxy.example:8080", ("proxy.example", "8080", "me", "a<b&c")),
    ],
)
def test_maven_gets_the_proxy_that_other_tools_read(maven: Path, name: str, proxy: str, expected: tuple[str | None, ...]):
    done = run(maven, **{name: proxy, "NO_PROXY": "localhost,repo.example"})
    called, _, settings = done.stdout.partition("\n")
    assert (called.split()[2:], done.returncode) == (["-q", "verify"], 3)
    found = ElementTree.fromstring(settings).find("proxies/proxy")
    assert found is not None
    assert tuple(found.findtext(field) or None for field in ("host", "port", "username", "password")) == expected
    assert found.findtext("nonProxyHosts") == "localhost|repo.example"
    # It may hold a password.
    assert [file.name for file in maven.parent.iterdir()] == ["mvn"]


def test_a_proxy_that_maven_cannot_take_is_said_without_its_password(maven: Path):
    done = run(maven, HTTPS_PROXY="socks5://me:secret@proxy.example:1080")
    assert (done.returncode, done.stdout) == (1, "")
    assert "has to be http://host:port" in done.stderr
    assert "secret" not in done.stderr

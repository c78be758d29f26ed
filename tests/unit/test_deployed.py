"""A test that deploys changed code deploys it everywhere: each image with code of ours is built from the changed copy."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fixtures.yaml_file import yaml_of

ROOT = Path(__file__).resolve().parents[2]


def stages_with_our_code() -> set[str]:
    """Of the Dockerfile: `app`, what comes from it, and what copies from it."""
    text = (ROOT / "compose" / "images" / "Dockerfile").read_text(encoding="utf-8")
    found = {"app"}
    for base, name, body in re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL):
        if base in found or "COPY --from=app " in body:
            found.add(name)
    return found


def test_each_image_with_our_code_that_deploy_builds_comes_from_the_copy():
    services = yaml_of(ROOT / "compose" / "compose.yaml")["services"]
    built = {
        name
        for name, service in services.items()
        if "profiles" not in service and service.get("build", {}).get("target") in stages_with_our_code()
    }
    assert len(built) >= 4
    assert yaml_of(ROOT / "tests" / "fixtures" / "deployed.yaml")["services"].keys() == built

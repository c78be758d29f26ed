"""What the Spark master's page says of workers and applications."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import requests

from contract.settings import Settings

SPARK_PAGE_PORT = 8080
TIMEOUT_S = 4.0


def page_address(settings: Settings) -> str:
    """Where the page of a standalone master is."""
    return f"http://{urlsplit(settings.spark_master).hostname}:{SPARK_PAGE_PORT}"


def read_page(settings: Settings) -> dict[str, Any]:
    """The page as JSON; requests.RequestException or ValueError if the master gives none."""
    page = requests.get(f"{page_address(settings)}/json/", timeout=TIMEOUT_S)
    page.raise_for_status()
    answer: dict[str, Any] = page.json()
    return answer


def is_standalone(settings: Settings) -> bool:
    """Whether there is a master that has a page: local threads have none."""
    return urlsplit(settings.spark_master).scheme == "spark"

"""What spout and bolts say goes through Storm, to which each line is a sign of life; how it looks the settings say."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from contract.logs import formatter
from contract.settings import Settings


def speak(context: Mapping[str, Any], settings: Settings) -> None:
    """What a component in Storm's context says looks as the settings want it."""
    if (component := context.get("componentid")) is None:
        return
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter(f"speed {component}", settings))

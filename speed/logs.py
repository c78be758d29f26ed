"""What spout and bolts say goes through Storm, to which each line is a sign of life; how it looks the settings say."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from contract.logs import formatter, level
from contract.settings import Settings


def speak(context: Mapping[str, Any], logger: logging.Logger, settings: Settings) -> None:
    """The logger of a component in Storm's context says what the settings want, as they want it."""
    if (component := context.get("componentid")) is None:
        return
    logger.setLevel(level(settings))
    for handler in logging.getLogger().handlers:
        handler.setLevel(level(settings))
        handler.setFormatter(formatter(f"speed {component}", settings))

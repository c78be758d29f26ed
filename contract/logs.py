"""What our processes say: lines of text for people, or of JSON for machines; one line a commit at most, and that on request.

A process says who it is once, by `begin`. What all its lines belong to, as those of a task to a run, is bound.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from contract.errors import ConfigurationError
from contract.settings import Settings

NAME = "braid"
"""Of the logger. Before `begin`, what is an error is a line on stderr."""
_TEXT, _JSON = "text", "json"
_LEVELS = ("info", "debug")
_bound: dict[str, object] = {}


def begin(process: str, settings: Settings) -> logging.Logger:
    """The logger of a process; what it says goes to stderr. ConfigurationError if the settings name no format or level."""
    logger = logging.getLogger(NAME)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(process, settings))
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)
    return logger


def formatter(process: str, settings: Settings, text: str = "%(message)s") -> logging.Formatter:
    """How a line looks. JSON has time (UTC), level, process, message, and what is bound or was given as `extra`."""
    if settings.log_level not in _LEVELS:
        raise ConfigurationError.bad_value("BRAID_LOG_LEVEL", settings.log_level, " or ".join(_LEVELS))
    if settings.log_format == _TEXT:
        return logging.Formatter(text)
    if settings.log_format != _JSON:
        raise ConfigurationError.bad_value("BRAID_LOG_FORMAT", settings.log_format, f"{_TEXT} or {_JSON}")
    return _JsonLines(process)


def bind(**fields: object) -> None:
    """Each line of this process has these fields from now on, in JSON."""
    _bound.update(fields)


def bound() -> dict[str, object]:
    """What each line has."""
    return dict(_bound)


class _JsonLines(JsonFormatter):
    def __init__(self, process: str) -> None:
        names = {"asctime": "time", "levelname": "level"}
        super().__init__([*names, "message"], rename_fields=names, static_fields={"process": process})

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (logging's own name)
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return log_data | _bound

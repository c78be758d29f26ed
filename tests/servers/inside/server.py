"""What a server is to be run: commands, a configuration and a log."""

from __future__ import annotations

from dataclasses import dataclass

RUN, SITE = "/tmp/run", "/tmp/site"
LOG, STDOUT, STDERR = f"{RUN}/access.log", f"{RUN}/stdout", f"{RUN}/stderr"
PORT, APP_PORT = 8080, 9000
ZONE, EAST = "America/St_Johns", "Asia/Kolkata"
"""Zones with a half hour in them, one west and one east of Greenwich: a log that is read in another one shows."""
APPS = "/opt/braid/src/tests/servers/inside/apps"
WSGI, ASGI = "tests.servers.inside.apps.answers:wsgi", "tests.servers.inside.apps.answers:asgi"
APP = f"gunicorn --bind 127.0.0.1:{APP_PORT} --workers 1 --threads 4 {WSGI}"
"""What stands behind servers that have no site of their own."""


@dataclass(frozen=True)
class Server:
    """A server that logs one way; commands are as a shell would take them apart.

    `version` is a command that tells it, or `package` a package of PyPI's or npm's that has it. `conf` is a file of conf/
    that goes to RUN, with `log` in the place of @LOG@. `behind` is a command that is started before, and `after` one that
    writes the log once all was asked. `has_ipv6` is False of one that listens at one address. `zone` is its clock's.
    """

    name: str
    command: str
    version: str = ""
    package: str = ""
    log_file: str = LOG
    conf: str = ""
    log: str = ""
    behind: str = ""
    after: str = ""
    has_ipv6: bool = True
    zone: str = ZONE

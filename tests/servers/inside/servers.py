"""Every server whose log is counted."""

from __future__ import annotations

from tests.servers.inside.app_servers import APP_SERVERS
from tests.servers.inside.web_servers import WEB_SERVERS

SERVERS = (*WEB_SERVERS, *APP_SERVERS)

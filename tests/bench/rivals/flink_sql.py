"""R3: Flink SQL in one JVM, its own SQL client with a cluster inside.

Tuned: see flink/views.sql.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from string import Template
from urllib.parse import quote

from contract.settings import Settings

_JARS = "/opt/braid/rivals/flink/*"
_STATEMENTS = Path(__file__).with_name("flink") / "views.sql"
_ROLE = "speed"
# What Flink's own scripts open of a Java that is newer than 11.
_OPENED = (
    "java.base/java.lang",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.time",
    "java.base/java.net",
    "java.base/java.io",
    "java.base/java.nio",
    "java.base/sun.nio.ch",
    "java.base/java.text",
)


def main() -> None:
    """Becomes Flink, which counts all that is in the topic now and ends."""
    settings, folder = Settings.from_env(), Path(tempfile.mkdtemp())
    statements = folder / "views.sql"
    statements.write_text(_filled(settings, folder), encoding="utf-8")
    (folder / "config.yaml").write_text(
        "execution.target: local\ntaskmanager.memory.managed.size: 512m\ntaskmanager.numberOfTaskSlots: 2\n",
        encoding="utf-8",
    )
    # Neither SQL nor log holds the password: the driver finds it there.
    passwords = folder / "pgpass"
    passwords.write_text(f"*:*:*:{_ROLE}:{settings.secret('database_speed_password')}\n", encoding="utf-8")
    passwords.chmod(0o600)
    command = [
        "java",
        "-Xms4g",
        "-Xmx4g",
        "-XX:+UseParallelGC",
        "-Duser.timezone=UTC",
        f"-Dorg.postgresql.pgpassfile={passwords}",
    ]
    command += [f"--add-opens={package}=ALL-UNNAMED" for package in _OPENED]
    command += [
        "-cp",
        _JARS,
        "org.apache.flink.table.client.SqlClient",
        "embedded",
        "-f",
        str(statements),
    ]
    os.execvpe(command[0], command, os.environ | {"FLINK_CONF_DIR": str(folder)})


def _filled(settings: Settings, folder: Path) -> str:
    server = f"{settings.database_host}:{settings.database_port}"
    return Template(_STATEMENTS.read_text(encoding="utf-8")).substitute(
        topic=settings.topic,
        kafka_bootstrap=settings.kafka_bootstrap,
        database_url=f"jdbc:postgresql://{server}/{quote(settings.database_name)}?user={_ROLE}&reWriteBatchedInserts=true",
        checkpoints=(folder / "checkpoints").as_uri(),
        state_backend=os.environ.get("TRY_BACKEND", "hashmap"),
    )


if __name__ == "__main__":
    main()

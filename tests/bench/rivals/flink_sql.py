"""R3: Flink SQL, its own SQL client with a cluster inside, all in one JVM.

Tuned (flink/views.sql has the settings): one decoder and one removal of repeats for both views; aggregates in mini-batches
and in two phases; objects reused; state in the heap, which took half of RocksDB's CPU time; no expiry for the aggregates'
state, which made the job need thrice the CPU time; the driver makes one statement of many inserts. Distinct visitors are
exact: its SQL has no estimate of them for streams. Percentiles are exact too, of rounded values. Checkpoints are on its own
disk. Rows are written when due, not with the checkpoint that holds them: exactly-once state, upserts that may be repeated.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from string import Template

from contract.settings import Settings

_JARS = "/opt/braid/rivals/flink/*"
_STATEMENTS = Path(__file__).parent / "flink" / "views.sql"
_ROLE = "speed"
_CONFIGURATION = """
execution.target: local
taskmanager.numberOfTaskSlots: 2
"""
# Of what Flink's own scripts open to it in a Java newer than 11, as much as this job needs.
_OPENED = ("java.base/java.lang", "java.base/java.util", "java.base/java.nio", "java.base/sun.nio.ch", "java.base/java.time")


def main() -> None:
    """Becomes Flink, which counts all that is in the topic now and ends."""
    settings, folder = Settings.from_env(), Path(tempfile.mkdtemp())
    (folder / "config.yaml").write_text(_CONFIGURATION, encoding="utf-8")
    statements = folder / "views.sql"
    statements.write_text(_filled(settings, folder / "checkpoints"), encoding="utf-8")
    # The client prints every statement. So the password is not in them: the driver finds it here.
    passwords = folder / "pgpass"
    passwords.touch(0o600)
    passwords.write_text(f"*:*:*:{_ROLE}:{settings.secret(f'database_{_ROLE}_password')}\n", encoding="utf-8")
    java = ["java", "-Xms4g", "-Xmx4g", "-XX:+UseParallelGC", "-Duser.timezone=UTC"]
    java += [f"-Dorg.postgresql.pgpassfile={passwords}", *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENED)]
    client = ["org.apache.flink.table.client.SqlClient", "embedded", "-f", str(statements)]
    os.execvpe(java[0], [*java, "-cp", _JARS, *client], os.environ | {"FLINK_CONF_DIR": str(folder)})


def _filled(settings: Settings, checkpoints: Path) -> str:
    server = f"{settings.database_host}:{settings.database_port}/{settings.database_name}"
    return Template(_STATEMENTS.read_text(encoding="utf-8")).substitute(
        topic=settings.topic,
        kafka_bootstrap=settings.kafka_bootstrap,
        database_url=f"jdbc:postgresql://{server}?user={_ROLE}&reWriteBatchedInserts=true",
        checkpoints=checkpoints.as_uri(),
    )


if __name__ == "__main__":
    main()

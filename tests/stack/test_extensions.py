"""A database that an image with older extensions has left comes to the ones that are installed."""

from __future__ import annotations

from tests.fixtures.stack import Stack

_NAME = "older_extensions"


def _psql(stack: Stack, database: str, *statements: str) -> str:
    password = "export PGPASSWORD=$(</run/secrets/database_superuser_password)"
    options = [option for statement in statements for option in ("-c", statement)]
    script = f'{password}; exec psql -qtAX -v ON_ERROR_STOP=1 -h 127.0.0.1 -U postgres -d {database} "$@" 2>&1'
    done = stack.run(
        "compose/engine", "compose", "exec", "-T", "timescaledb", "bash", "-c", script, "psql", *options, check=False
    )
    return done.stdout.strip()


def test_an_older_extension_is_updated_and_an_equal_one_left_alone(stack: Stack) -> None:
    versions = "SELECT extname, extversion FROM pg_extension WHERE extname IN ('timescaledb', 'hll') ORDER BY 1"
    _psql(stack, "postgres", f"DROP DATABASE IF EXISTS {_NAME}", f"CREATE DATABASE {_NAME} TEMPLATE template0")
    try:
        _psql(stack, _NAME, "CREATE EXTENSION timescaledb")
        _psql(stack, _NAME, "CREATE EXTENSION hll")
        installed = _psql(stack, _NAME, versions)
        # What a database of the release before says of itself. The library of that release is not there. One statement of
        # the session after the last change would end it.
        _psql(
            stack,
            _NAME,
            "UPDATE _timescaledb_catalog.metadata SET value = '2.19.2' WHERE key = 'timescaledb_version'",
            "UPDATE pg_extension SET extversion = '2.17' WHERE extname = 'hll'",
            "UPDATE pg_extension SET extversion = '2.19.2' WHERE extname = 'timescaledb'",
        )
        assert "could not access file" in _psql(stack, _NAME, "SELECT 1"), "it is not as after an update of the image"
        stack.compose("exec", "-T", "timescaledb", "update-extensions", "/tmp")
        assert _psql(stack, _NAME, versions) == installed
        assert _psql(stack, _NAME, "SELECT time_bucket('1 minute', timestamptz 'epoch') IS NOT NULL") == "t"
        # The stack's own database had them already, and others have none.
        assert _psql(stack, stack.settings.database_name, versions) == installed
        assert stack.compose("exec", "-T", "timescaledb", "update-extensions", "/tmp") == ""
    finally:
        _psql(stack, "postgres", f"DROP DATABASE {_NAME}")

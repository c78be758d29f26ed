"""A server that answers and does not let a role in is not called one that does not answer."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg import sql

from contract.errors import LoginRefused
from contract.settings import Settings
from serving.__main__ import main
from serving.database import Role, connect


def with_secret(settings: Settings, folder: Path, role: str, password: str) -> Settings:
    (folder / f"database_{role}_password").write_text(password)
    return replace(settings, secrets_dir=str(folder))


@pytest.mark.parametrize("role", ["reader", "speed", "batch"])
def test_a_refused_password_names_role_address_secret_and_what_to_do(database: Settings, tmp_path: Path, role: Role) -> None:
    wrong = "of-another-checkout"
    with pytest.raises(LoginRefused) as refused:
        connect(with_secret(database, tmp_path, role, wrong), role)
    text = str(refused.value)
    assert f"TimescaleDB at {database.database_host}:{database.database_port} refused the password of role {role}" in text
    assert f"build/secrets/database_{role}_password" in text
    assert "`make down` and then `make up`" in text
    assert "does not answer" not in text
    assert wrong not in text
    assert len(text.splitlines()) == 1


def test_an_empty_password_is_refused_too(database: Settings, tmp_path: Path) -> None:
    with pytest.raises(LoginRefused, match=r"refused the password of role reader .*\(no password supplied\)"):
        connect(with_secret(database, tmp_path, "reader", ""), "reader")


def test_a_database_that_is_not_there_is_named(empty_database: Settings) -> None:
    name = empty_database.database_name
    with pytest.raises(LoginRefused, match=rf'let role reader in \(database "{name}" does not exist\).*BRAID_DATABASE_NAME'):
        connect(empty_database, "reader")


def test_a_role_that_may_not_connect_to_the_database(database: Settings) -> None:
    with connect(database, "postgres") as owner:
        name = sql.Identifier(database.database_name)
        owner.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM public, reader").format(name))
    with pytest.raises(LoginRefused, match=r"let role reader in \(permission denied for database .*\); `make up`"):
        connect(database, "reader")


@pytest.fixture
def idle_role(database: Settings) -> Iterator[str]:
    """A role with password "x" that may not log in."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with connect(database, "postgres") as owner:
        owner.execute(sql.SQL("CREATE ROLE {} NOLOGIN PASSWORD 'x'").format(sql.Identifier(name)))
        yield name
        owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_a_role_that_may_not_log_in(database: Settings, tmp_path: Path, idle_role: str) -> None:
    settings = with_secret(database, tmp_path, idle_role, "x")
    with pytest.raises(LoginRefused, match=rf'\(role "{idle_role}" is not permitted to log in\)'):
        connect(settings, idle_role)  # type: ignore[arg-type]


def test_a_query_with_a_refused_password_is_one_line(
    database: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BRAID_SECRETS_DIR", with_secret(database, tmp_path, "reader", "wrong").secrets_dir)
    assert main(["query", "select 1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "refused the password of role reader" in line

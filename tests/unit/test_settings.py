"""Settings: defaults, conversion, refusal that names the variable, secrets from files only."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from contract.errors import ConfigurationError
from contract.settings import Settings


def test_defaults_and_changes():
    assert Settings.from_env({}) == Settings()
    assert Settings.from_env({"RATE": "500", "BRAID_TOPIC": ""}).rate == 500


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("RATE", "fast", "RATE='fast' is not a whole number"),
        ("RATE", "0", "RATE='0' is not at least 1"),
        ("BRAID_DEDUPE_FALSE_POSITIVE_RATE", "nan", "is not at least 1e-12"),
    ],
)
def test_a_wrong_value_names_its_variable(variable: str, value: str, complaint: str):
    with pytest.raises(ConfigurationError, match=complaint):
        Settings.from_env({variable: value})


def test_secrets_are_read_from_files(tmp_path: Path):
    (tmp_path / "visitor_key").write_text("abc\n")
    settings = Settings(secrets_dir=str(tmp_path))
    assert settings.secret("visitor_key") == "abc"
    with pytest.raises(ConfigurationError, match=r"secret .*nothing cannot be read; `make up` creates"):
        settings.secret("nothing")


def test_every_setting_has_a_reason():
    assert all(setting.metadata["reason"] for setting in fields(Settings))

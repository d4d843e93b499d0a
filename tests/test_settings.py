import subprocess
import sys

import pytest

from benchlib.domain.errors import InvalidSetting
from benchlib.settings import get_settings, split_addresses


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def test_embedded_defaults():
    settings = get_settings()
    assert settings.store_url == "sqlite:///data/benchlib.db"
    assert settings.engine_addresses == ("http://localhost:8000",)
    assert settings.vllm_api_key is None
    assert not settings.read_only


def test_the_environment_names_store_and_engines(monkeypatch):
    monkeypatch.setenv("BENCHLIB_DB_URL", "postgresql://u:pw@h/n")
    monkeypatch.setenv("VLLM_BASE_URL", "http://a:1/, http://b:2")
    monkeypatch.setenv("VLLM_API_KEY", "sk-secret")
    settings = get_settings()
    assert settings.store_url == "postgresql://u:pw@h/n"
    assert settings.engine_addresses == ("http://a:1", "http://b:2")
    assert settings.vllm_api_key.get_secret_value() == "sk-secret"
    assert "sk-secret" not in repr(settings)
    assert "pw@" not in repr(settings)


def test_secrets_may_lie_in_streamlits_file_and_the_environment_wins(tmp_path, monkeypatch):
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text(
        'db_url = "sqlite:///x.db"\nvllm_api_key = "from-file"\n[auth]\ncookie_secret = "c"\n'
    )
    assert get_settings().store_url == "sqlite:///x.db"
    assert get_settings().vllm_api_key.get_secret_value() == "from-file"
    get_settings.cache_clear()
    monkeypatch.setenv("VLLM_API_KEY", "from-environment")
    assert get_settings().vllm_api_key.get_secret_value() == "from-environment"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BENCHLIB_READ_ONLY", "perhaps"),
        ("BENCHLIB_LEASE_SECONDS", "0"),
        ("BENCHLIB_ENGINE_PATIENCE_SECONDS", "long"),
    ],
)
def test_an_invalid_setting_is_named_in_one_sentence(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSetting, match=f"The setting {name} is wrong: Input should be"):
        get_settings()


def test_a_broken_secrets_file_is_told(tmp_path):
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text("db_url = ")
    with pytest.raises(InvalidSetting, match=r"secrets\.toml cannot be read"):
        get_settings()


def test_an_invalid_setting_stops_the_start_with_one_sentence(monkeypatch):
    monkeypatch.setenv("BENCHLIB_READ_ONLY", "perhaps")
    ended = subprocess.run(
        [sys.executable, "-c", "from benchlib.bootstrap import check_start; check_start()"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("benchlib cannot start. The setting BENCHLIB_READ_ONLY is wrong")
    assert len(ended.stderr.splitlines()) == 1


def test_addresses_are_split_and_trimmed():
    assert split_addresses(" http://a/ ,, http://b ") == ("http://a", "http://b")

import subprocess
import sys

import pytest

from benchlib import settings as settings_module
from benchlib.domain.errors import InvalidSetting
from benchlib.domain.users import Role
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


def test_secrets_may_be_in_streamlits_file_and_the_environment_overrides_them(
    tmp_path, monkeypatch
):
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text(
        'db_url = "sqlite:///x.db"\nvllm_api_key = "from-file"\nnotify_urls = "json://h/token"\n'
        "[theme]\nx = 1\n"
    )
    assert get_settings().store_url == "sqlite:///x.db"
    assert get_settings().vllm_api_key.get_secret_value() == "from-file"
    assert get_settings().notify_urls.get_secret_value() == "json://h/token"
    assert "//h" not in repr(get_settings())
    get_settings.cache_clear()
    monkeypatch.setenv("VLLM_API_KEY", "from-environment")
    assert get_settings().vllm_api_key.get_secret_value() == "from-environment"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BENCHLIB_READ_ONLY", "perhaps"),
        ("BENCHLIB_LEASE_SECONDS", "0"),
        ("BENCHLIB_LOG_FORMAT", "xml"),
        ("BENCHLIB_STALL_SECONDS", "0"),
        ("BENCHLIB_ENGINE_PATIENCE_SECONDS", "long"),
    ],
)
def test_an_invalid_setting_is_named_in_one_sentence(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSetting, match=f"The setting {name} is wrong: Input should be"):
        get_settings()


LOGIN = """
[auth]
redirect_uri = "http://localhost:8501/oauth2callback"
cookie_secret = "a-secret-of-tests-0123456789abcdef"
client_id = "benchlib"
client_secret = "secret-of-the-client"
server_metadata_url = "https://id.example.org/.well-known/openid-configuration"
"""


def write_secrets(folder, text):
    (folder / ".streamlit").mkdir(exist_ok=True)
    (folder / ".streamlit" / "secrets.toml").write_text(text)


def test_a_login_and_who_gets_which_role(tmp_path, monkeypatch):
    write_secrets(tmp_path, 'role_claim = "roles"\n' + LOGIN)
    monkeypatch.setenv("BENCHLIB_ADMINS", " Ada@Example.org,,bob@example.org ")
    monkeypatch.setenv("BENCHLIB_VIEWERS", "*")
    settings = get_settings()
    assert settings.auth.client_id == "benchlib"
    assert "0123456789" not in repr(settings)
    assert "secret-of-the-client" not in repr(settings)
    assert settings.role_rules.claim == "roles"
    assert settings.role_rules.members == {
        Role.ADMIN: {"ada@example.org", "bob@example.org"},
        Role.RESEARCHER: frozenset(),
        Role.VIEWER: {"*"},
    }


def test_without_a_section_auth_there_are_no_users():
    assert get_settings().auth is None


@pytest.mark.parametrize(
    ("secrets", "environment", "sentence"),
    [
        (LOGIN, {}, "nobody would get a role; set BENCHLIB_ADMINS"),
        ("", {"BENCHLIB_ADMINS": "ada@example.org"}, r"no section \[auth\]"),
        ("", {"BENCHLIB_ROLE_CLAIM": "roles"}, r"no section \[auth\]"),
        (LOGIN, {"BENCHLIB_ADMINS": "*"}, r"BENCHLIB_ADMINS is wrong: .*\* is for viewers only"),
        (
            LOGIN.replace("a-secret-of-tests-0123456789abcdef", "short"),
            {"BENCHLIB_ADMINS": "ada@example.org"},
            r"cookie_secret in the section \[auth\] is wrong: .* at least 32",
        ),
        (
            LOGIN.replace("client_id", "client"),
            {"BENCHLIB_ADMINS": "ada@example.org"},
            r"client_id in the section \[auth\] is wrong: Field required",
        ),
    ],
)
def test_half_a_login_stops_the_start(tmp_path, monkeypatch, secrets, environment, sentence):
    write_secrets(tmp_path, secrets)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSetting, match=sentence):
        get_settings()


def test_a_login_without_authlib_says_what_to_install(tmp_path, monkeypatch):
    write_secrets(tmp_path, LOGIN)
    monkeypatch.setenv("BENCHLIB_ADMINS", "ada@example.org")
    monkeypatch.setattr(settings_module, "find_spec", lambda _name: None)
    with pytest.raises(InvalidSetting, match=r"pip install 'benchlib\[users\]'"):
        get_settings()


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("VLLM_BASE_URL", "gpu-1:8000", "write addresses as http://host:port"),
        ("VLLM_BASE_URL", "http://a:1,ftp://b", "write addresses as http://host:port"),
        ("VLLM_BASE_URL", "http://me:key@gpu-1", "leave user names and keys out"),
        ("BENCHLIB_VLLM_PYTHON", "nowhere/python", "Path does not point to a file"),
    ],
)
def test_addresses_and_files_are_checked_at_the_start(monkeypatch, name, value, advice):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSetting, match=f"The setting {name} is wrong: {advice}"):
        get_settings()


def test_a_broken_secrets_file_is_reported(tmp_path):
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

"""Settings from environment variables and the secrets file."""

from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BaseModel,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from benchlib.domain.errors import InvalidSetting
from benchlib.domain.users import EVERYBODY, Role, RoleRules

DEFAULT_VLLM_URL = "http://localhost:8000"


class Login(BaseModel):
    """The provider of `st.login`, as Streamlit reads it from the section [auth]."""

    redirect_uri: str
    cookie_secret: SecretStr = Field(min_length=32)
    client_id: str
    client_secret: SecretStr
    server_metadata_url: str


class Settings(BaseSettings):
    """Frozen settings; the environment overrides `.streamlit/secrets.toml`."""

    model_config = SettingsConfigDict(
        env_prefix="BENCHLIB_",
        frozen=True,
        extra="ignore",
        toml_file=".streamlit/secrets.toml",
        populate_by_name=True,
    )

    data_dir: Path = Path("data")
    """Folder for the embedded store, logs of managed servers and snapshots."""

    db_url: SecretStr | None = None
    """sqlite:///… or postgresql://…; the default is a SQLite file in the data folder."""

    read_only: bool = False
    """Show everything, change nothing."""

    auto_resume: bool = False
    """Resume interrupted runs without a click."""

    vllm_base_url: str | None = Field(
        default=None, validation_alias=AliasChoices("VLLM_BASE_URL", "vllm_base_url")
    )
    """Addresses of one or more servers, separated by commas."""

    vllm_api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("VLLM_API_KEY", "vllm_api_key")
    )
    """Key for servers that require one."""

    engine_hosts: str = ""
    """Hosts that may serve as engines besides this machine and those in VLLM_BASE_URL, separated by
    commas; `*` allows all."""

    vllm_python: FilePath | None = None
    """Python with vLLM, for managed local servers; the default is the dashboard's own."""

    api_token: SecretStr | None = Field(default=None, min_length=16)
    """With it, clients may write over the API from anywhere; without it, from this machine only."""

    auth: Login | None = None
    """Where people log in; None = the dashboard has one private user."""

    role_claim: str | None = None
    """The claim of the provider's token that names roles."""

    admins: str = ""
    """E-mail addresses, separated by commas; likewise for researchers and viewers."""

    researchers: str = ""

    viewers: str = ""
    """`*` = anyone whom the provider lets log in."""

    request_timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] = 600
    """How long one request to an engine may take."""

    engine_patience_seconds: Annotated[float, Field(ge=0)] = 3_600
    """How long a run waits for an engine that is down before it ends as failed (resumable)."""

    lease_seconds: Annotated[float, Field(ge=1, le=3_600)] = 20
    """A worker that is silent for so long counts as lost."""

    log_format: Literal["json", "text"] | None = None
    """`json` is one object per line; the default is text on a terminal, else JSON."""

    notify_urls: SecretStr | None = None
    """Whom to notify when a run ends or stalls: apprise URLs, separated by spaces or commas. They
    hold tokens."""

    public_url: Annotated[str, Field(pattern="^https?://")] | None = None
    """Where people reach the dashboard; for links in notifications."""

    stall_seconds: Annotated[float, Field(gt=0)] = 600
    """A run that gets no answer for so long is reported as stalled."""

    @field_validator("vllm_base_url")
    @classmethod
    def _validate_addresses(cls, text: str | None) -> str | None:
        return check_addresses(text)

    @property
    def store_url(self) -> str:
        """URL of the store; may hold a password."""
        if self.db_url is not None:
            return self.db_url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'benchlib.db'}"

    @field_validator("admins", "researchers")
    @classmethod
    def _validate_emails(cls, text: str) -> str:
        if EVERYBODY in _entries(text):
            raise ValueError("* is for viewers only; name e-mail addresses")
        return text

    @model_validator(mode="after")
    def _validate_roles(self) -> "Settings":
        rules = self.role_rules
        gives_roles = rules.claim is not None or any(rules.members.values())
        if self.auth is None and gives_roles:
            raise InvalidSetting(
                "Roles are set, but nobody can log in: .streamlit/secrets.toml has no section "
                "[auth]. Add it, or unset BENCHLIB_ROLE_CLAIM, BENCHLIB_ADMINS, "
                "BENCHLIB_RESEARCHERS and BENCHLIB_VIEWERS."
            )
        if self.auth is not None and not gives_roles:
            raise InvalidSetting(
                ".streamlit/secrets.toml has a section [auth], but nobody would get a role; set "
                "BENCHLIB_ADMINS or BENCHLIB_ROLE_CLAIM."
            )
        if self.auth is not None and find_spec("authlib") is None:
            raise InvalidSetting("Logging in needs Authlib: pip install 'benchlib[users]'.")
        return self

    @property
    def role_rules(self) -> RoleRules:
        """The rules that give a login its role."""
        members: Mapping[Role, str] = {
            Role.ADMIN: self.admins,
            Role.RESEARCHER: self.researchers,
            Role.VIEWER: self.viewers,
        }
        return RoleRules(
            self.role_claim or None, {role: _entries(text) for role, text in members.items()}
        )

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """The hosts in `engine_hosts`, in lower case."""
        names = (name.strip().lower().rstrip(".") for name in self.engine_hosts.split(","))
        return frozenset(name for name in names if name)

    @property
    def engine_addresses(self) -> tuple[str, ...]:
        """The engine addresses to use if a form names none."""
        return split_addresses(self.vllm_base_url or DEFAULT_VLLM_URL)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments before environment before the secrets file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def _entries(text: str) -> frozenset[str]:
    """The entries of a comma-separated list, in lower case."""
    return frozenset(part.strip().lower() for part in text.split(",") if part.strip())


def split_addresses(text: str) -> tuple[str, ...]:
    """The addresses of a comma-separated list, without blanks and trailing slashes."""
    return tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())


def check_addresses(text: str | None) -> str | None:
    """Check a comma-separated list of addresses and return it unchanged.

    Raises:
        ValueError: One is not a web address, or holds a user name, a key or a query.
    """
    for address in split_addresses(text or ""):
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write addresses as http://host:port, separated by commas")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "leave user names and keys out of the address; give the key separately"
            )
    return text


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        InvalidSetting: One is wrong; the sentence names it and says what is allowed.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        if first["loc"][0] == "auth":
            name = f"{first['loc'][-1]} in the section [auth]"
        elif name not in ("VLLM_BASE_URL", "VLLM_API_KEY"):
            name = f"BENCHLIB_{name.removeprefix('BENCHLIB_')}"
        problem = first["msg"].removeprefix("Value error, ")
        raise InvalidSetting(f"The setting {name} is wrong: {problem}.") from None
    except ValueError as error:
        raise InvalidSetting(f".streamlit/secrets.toml cannot be read: {error}.") from None

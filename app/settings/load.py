"""Reads settings from the environment, a `.env` file and `NAME_FILE`, and reports all problems at once."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.errors import SettingsError
from app.sentences import sentence
from app.settings.fields import is_this_machine
from app.settings.model import SETTING_NAMES, Settings, setting_name

# Kubernetes injects these into every pod in the namespace of a Service with our name.
_KUBERNETES = re.compile(r"_SERVICE_|_PORT(_|$)")
_OUR_KEYS = ("api_key", "webhook_secrets", "stripe_account", "stripe_context", "sha256", "role")
# Where the command line finds a server: options of its commands (app/cli/api.py), not settings of the service.
_OF_COMMANDS = ("TALLYHOOK_URL", "TALLYHOOK_TOKEN")
_KNOWN_NAMES = [*SETTING_NAMES, *(f"{name}_FILE" for name in SETTING_NAMES)]


def load_settings(environ: Mapping[str, str] | None = None, env_file: Path | None = Path(".env")) -> Settings:
    """The settings from `environ` (default: the process's), which override those from `env_file`, if it exists.

    Raises SettingsError, which names everything missing or malformed, one line each.
    """
    given = _from_env_file(env_file) | dict(os.environ if environ is None else environ)
    given = {name: value.strip() for name, value in given.items() if value.strip()}
    values, problems = _with_files_read(given)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems += _described(error)
    if problems:
        raise SettingsError("\n".join(problems))
    return settings.model_copy(update={"warnings": (*_unknown_names(given), *_plain_http(settings))})


def _from_env_file(env_file: Path | None) -> dict[str, str]:
    if env_file is None or not env_file.is_file():
        return {}
    try:
        lines = dotenv_values(env_file, interpolate=False)
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{env_file} cannot be read: it must be a readable file of UTF-8 text") from None
    return {name: value for name, value in lines.items() if value is not None}


def _with_files_read(given: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    values = {name: given[name] for name in SETTING_NAMES if name in given}
    problems = []
    for name in SETTING_NAMES:
        path = given.get(f"{name}_FILE")
        if path is None:
            continue
        if name in values:
            problems.append(f"{name}: is set twice, also as {name}_FILE: remove one of them")
            continue
        try:
            values[name] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            # Not even the path is repeated: the variable may hold the secret itself.
            problems.append(f"{name}_FILE: must name a readable file of UTF-8 text")
    return {name: value for name, value in values.items() if value}, problems


def _described(error: ValidationError) -> Iterator[str]:
    details = error.errors(include_url=False, include_input=False)
    return (_one_line(detail) for detail in details if detail["type"] != "default_factory_not_called")


def _one_line(detail: ErrorDetails) -> str:
    # A JSON key may be a misplaced secret: only keys that we know are shown.
    known = [str(part) for part in detail["loc"][1:] if part in _OUR_KEYS]
    place = " ".join([str(part) for part in detail["loc"][:1]] + known)
    message = "has an unknown key: check its spelling" if detail["type"] == "extra_forbidden" else sentence(detail)
    return f"{place}: {message}" if place else message


def _unknown_names(given: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(given):
        known = name in _KNOWN_NAMES or name in _OF_COMMANDS or _KUBERNETES.search(name)
        if name.startswith("TALLYHOOK_") and not known:
            nearest = difflib.get_close_matches(name, _KNOWN_NAMES, n=1, cutoff=0)[0]
            yield f"{name} is not a setting and has no effect; the closest one is {nearest}"


def _plain_http(settings: Settings) -> Iterator[str]:
    for name in ("stripe_api_base", "stripe_files_base"):
        base = urlsplit(getattr(settings, name))
        if base.scheme == "http" and not is_this_machine(base.hostname or ""):
            yield f"{setting_name(name)} sends the API key unencrypted over plain http: use https"

"""How the tests of settings ask for them: from a given environment, with no file."""

import pytest
from pydantic import SecretStr

from app.errors import SettingsError
from app.settings import Settings, load_settings

TOKEN = "t" * 32
DIGEST = "ab" * 32
# No message, repr or dump may show this.
CANARY = "CANARYcanary7Q"


def settings_of(**environ: str) -> Settings:
    return load_settings(environ, None)


def problems_of(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, None)
    return str(caught.value).splitlines()


def shown(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()

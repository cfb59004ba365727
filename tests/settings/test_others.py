"""Which variables of other libraries hold secrets, and that no log shows them."""

import logging

import pytest

from app.observability.logs import configure_logs
from app.settings.others import secrets_of_others


@pytest.mark.parametrize(
    ("name", "value", "secrets"),
    [
        ("AWS_SECRET_ACCESS_KEY", "a-secret-key", {"a-secret-key"}),
        ("AWS_SESSION_TOKEN", "a-session-token", {"a-session-token"}),
        ("AZURE_STORAGE_ACCOUNT_KEY", "an-account-key", {"an-account-key"}),
        ("AZURE_STORAGE_SAS_TOKEN", "sv=2020&sig=abc", {"sv=2020&sig=abc"}),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", '{"private_key": "x"}', {'{"private_key": "x"}'}),
        ("OTEL_EXPORTER_OTLP_HEADERS", "key=abc%20def, tenant=1, k=with=more", {"abc%20def", "with=more"}),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "k=a-vendors-key", {"a-vendors-key"}),
        ("AWS_REGION", "eu-central-1", set()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318", set()),
        ("MY_SECRET_KEY", "not-asked-for", set()),
    ],
)
def test_secrets_are_known_by_the_names_of_their_variables(name: str, value: str, secrets: set[str]) -> None:
    assert secrets_of_others({name: value}) == secrets


@pytest.mark.usefixtures("logging_as_it_was")
def test_no_log_shows_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-a-store")
    configure_logs(json=True)

    logging.getLogger("elsewhere").warning("signed with canary-of-a-store")

    assert "signed with [redacted]" in capsys.readouterr().err

"""Signatures as Standard Webhooks has them, verified by its own library."""

import uuid
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.targets.signatures import active_secrets, derive_secret, signed_headers

KEY = "a-signing-key-of-more-than-32-characters"
TARGET = uuid.UUID(int=7)
MESSAGE = uuid.UUID(int=8)
BODY = b'{"type":"run.stored"}'


def headers(secrets: list[str]) -> dict[str, str]:
    return signed_headers(MESSAGE, datetime.now(UTC), BODY, secrets)


def test_the_official_library_verifies_what_we_sign() -> None:
    secret = derive_secret(KEY, TARGET, 1)

    assert Webhook(secret).verify(BODY, headers([secret])) == {"type": "run.stored"}


def test_while_a_rotation_lasts_the_old_secret_and_the_new_one_both_verify() -> None:
    both = active_secrets([KEY], TARGET, [2, 1])

    sent = headers(both)

    assert [Webhook(secret).verify(BODY, sent) for secret in both] == [{"type": "run.stored"}] * 2


def test_while_the_signing_key_is_replaced_both_keys_sign() -> None:
    secrets = active_secrets(["b" * 40, KEY], TARGET, [1])

    Webhook(derive_secret(KEY, TARGET, 1)).verify(BODY, headers(secrets))
    Webhook(derive_secret("b" * 40, TARGET, 1)).verify(BODY, headers(secrets))


def test_every_target_and_every_rotation_has_a_secret_of_its_own() -> None:
    secrets = {derive_secret(KEY, uuid.UUID(int=target), version) for target in range(3) for version in (1, 2)}

    assert len(secrets) == 6
    assert all(secret.startswith("whsec_") for secret in secrets)


def test_another_body_does_not_verify() -> None:
    secret = derive_secret(KEY, TARGET, 1)

    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(b'{"type":"run.failed"}', headers([secret]))

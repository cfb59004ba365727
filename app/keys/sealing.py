"""Seals what a row keeps: AES-256-GCM under one of the keys of TALLYHOOK_KEY_ENCRYPTION_KEY, bound to its account.

A sealed value is one byte of version, twelve of nonce, and the ciphertext with its tag. The name of the key that sealed
it, four bytes of the key's SHA-256, is stored beside it. New values are sealed with the first key; the others are
only for opening.
"""

import base64
import hashlib
import os
from collections.abc import Sequence

from pydantic import SecretStr

from app.errors import CannotOpen

_VERSION = b"\x01"
_NONCE_BYTES = 12


def name_of(key: SecretStr) -> str:
    """The name of a key: it says nothing about the key."""
    return hashlib.sha256(b"tallyhook key " + _raw(key)).hexdigest()[:8]


def seal(text: str, account: str, keys: Sequence[SecretStr]) -> tuple[bytes, str]:
    """The text, sealed for this account with the first key; and that key's name."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_raw(keys[0])).encrypt(nonce, text.encode(), account.encode())
    return _VERSION + nonce + sealed, name_of(keys[0])


def unseal(sealed: bytes, key_name: str, account: str, keys: Sequence[SecretStr]) -> str:
    """The text. Raises CannotOpen if no key fits, or somebody else changed the row."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key = next((key for key in keys if name_of(key) == key_name), None)
    if key is None:
        raise CannotOpen(f"it is sealed with the key {key_name}, which TALLYHOOK_KEY_ENCRYPTION_KEY does not hold")
    nonce, rest = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        if sealed[:1] != _VERSION:
            raise ValueError
        return AESGCM(_raw(key)).decrypt(nonce, rest, account.encode()).decode()
    except (InvalidTag, ValueError):
        raise CannotOpen("its row was changed, or written by a newer version") from None


def _raw(key: SecretStr) -> bytes:
    return base64.b64decode(key.get_secret_value())

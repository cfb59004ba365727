"""Identifiers in Stripe's shape. They are random even where everything else follows the seed: a simulator that is
restarted beside an old database must not hand out the same ids again."""

import hashlib
import random
import string

ALPHABET = string.digits + string.ascii_letters
_random = random.SystemRandom()


def new_id(prefix: str) -> str:
    """`new_id("frr")` → `frr_1…`, 26 characters after the prefix."""
    value = int.from_bytes(_random.randbytes(19), "big")
    return f"{prefix}_1{_letters(value, 24)}"


def derived_id(prefix: str, *words: object) -> str:
    """The same id for the same words: for accounts, and inside report files."""
    digest = hashlib.blake2b("\0".join(map(str, words)).encode(), digest_size=16).digest()
    return f"{prefix}_1{_letters(int.from_bytes(digest, 'big'), 16)}"


def _letters(value: int, length: int) -> str:
    letters = []
    for _ in range(length):
        value, place = divmod(value, 62)
        letters.append(ALPHABET[place])
    return "".join(letters)

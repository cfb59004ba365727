"""What is redacted from texts because it looks like a secret, and what is not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.observability.logs import redact


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("key sk_live_51Ab_c.", "key [redacted]."),
        ("my_rk_test_9Z,", "my_[redacted],"),
        ("sk_org_live_abc", "[redacted]"),
        ("Invalid API Key provided: sk_test_********1234", "Invalid API Key provided: [redacted]"),
        ("whsec_Ab+/=-_9 rest", "[redacted] rest"),
        ("Authorization: Bearer abc", "Authorization: Bearer [redacted]"),
        ("send `Authorization: Bearer [redacted]`", "send `Authorization: Bearer [redacted]`"),
        ("authorization=abc next", "authorization=[redacted] next"),
        ("{'Authorization': 'Basic c2s6', 'a': 1}", "{'Authorization': 'Basic [redacted]', 'a': 1}"),
        ('{"authorization":"Bearer x"}', '{"authorization":"Bearer [redacted]"}'),
        ("[(b'authorization', b'Bearer x')]", "[(b'authorization', b'Bearer [redacted]')]"),
        ("sent bearer 0123456789abcdef", "sent bearer [redacted]"),
        ("postgresql://user:pa:ss@host:5432/db", "postgresql://user:[redacted]@host:5432/db"),
        ("at postgresql://user:p@ss@host/db!", "at postgresql://user:[redacted]@host/db!"),
        ("redis://:secret@host", "redis://:[redacted]@host"),
        (
            "violates x\nDETAIL:  Failing row contains (1, a) b, c\nd).\nCONTEXT: y",
            "violates x\nDETAIL:  Failing row contains [redacted]\nCONTEXT: y",
        ),
        ("host=h password=pw port=1", "host=h password=[redacted] port=1"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "authorization failed: basic authentication expected",
        "run frr_1Ab of acct_1Ab wrote file_1Ab",
        "https://api.stripe.com:443/v1/reporting/report_runs?a=b@c",
        "http://127.0.0.1:8000/webhooks/stripe",
        "mail to someone@example.org",
        "password authentication failed for user tallyhook",
    ],
)
def test_what_does_not_is_left_as_it_is(text: str) -> None:
    assert redact(text) == text


# Whatever follows "Bearer" counts as the token, again each time: more is redacted, never less.
@given(st.text().filter(lambda text: not re.search("bearer|basic", text, re.IGNORECASE)))
def test_redacting_again_changes_nothing(text: str) -> None:
    once = redact(f"Bearer {text}sk_live_{text} a://b:{text}@c authorization: {text}")

    assert redact(once) == once

"""How we read the encodings that clients accept."""

import pytest

from app.api.http.content_negotiation import prefers_zstd

LIKES = [
    "zstd", "ZSTD", "zstd;q=0.1", "gzip;q=0.5, zstd", "zstd, gzip", "identity;q=0.4, zstd;q=0.5", "zstd, identity",
    "*, identity;q=0", "br;q=0.9 , zstd ; q=1.000", "zstd,,", "nonsense;;, zstd",
]  # fmt: skip
LIKES_NOT = [
    None, "", "identity", "gzip", "gzip, deflate, br, zstd", "zstd;q=0", "zstd;q=0.000", "zstd;q=0.5, identity",
    "zstd;q=0.5, gzip", "*", "*;q=0", "zstd;q=0.5, *", "zstd;q=2", "zstdx", "zstd;level=3", "identity, zstd",
]  # fmt: skip


@pytest.mark.parametrize("header", LIKES)
def test_clients_that_prefer_zstd(header: str) -> None:
    assert prefers_zstd(header)


@pytest.mark.parametrize("header", LIKES_NOT)
def test_clients_that_do_not(header: str | None) -> None:
    assert not prefers_zstd(header)

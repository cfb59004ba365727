"""Which form of a file a client prefers (`Accept-Encoding`), and whether it has it already (`If-None-Match`); RFC
9110."""

import re

_CODING = re.compile(r"([!#$%&'*+.^_`|~0-9a-z-]+)(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")


def prefers_zstd(header: str | None) -> bool:
    """Whether this client prefers zstd to every other coding that it names.

    HTTP libraries list every coding they can decode, which expresses no preference: among equal weights the first
    counts.
    """
    liked = {found[1]: float(found[2] or 1) for part in (header or "").lower().split(",") if (found := _read(part))}
    others = {"identity": liked.get("*", 0.0), **{name: q for name, q in liked.items() if name not in ("zstd", "*")}}
    zstd = liked.get("zstd", liked.get("*", 0.0))
    if zstd == 0 or zstd < max(others.values()):
        return False
    rivals = [name for name, q in others.items() if q == zstd]
    order = list(liked)
    return not rivals or ("zstd" in order and all(_place(order, "zstd") < _place(order, name) for name in rivals))


def names_tag(header: str | None, etag: str) -> bool:
    """Whether `If-None-Match` names this tag; weakly, as that header compares."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return header.strip() == "*" or etag in tags


def _read(part: str) -> re.Match[str] | None:
    return _CODING.fullmatch(part.strip(" \t"))


def _place(order: list[str], name: str) -> int:
    return order.index(name) if name in order else len(order)

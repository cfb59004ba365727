"""Secrets in the environment that are not ours: object stores and OpenTelemetry read variables of their own."""

import re
from collections.abc import Mapping

_SECRET = re.compile(r"(?:AWS|AZURE|GOOGLE)_\w*(?:KEY|SECRET|TOKEN|SAS|PASSWORD)\w*")
_HEADERS = re.compile(r"OTEL_EXPORTER_OTLP_(?:TRACES_)?HEADERS")
# Shorter is the number of a tenant, say, or a password of a letter: it would be taken out of every word that holds it.
SHORTEST_SECRET = 8


def secrets_of_others(environ: Mapping[str, str]) -> frozenset[str]:
    """What no log may show of them; of headers (`name=value,…`) the values, often the key of a vendor."""
    found = {value.strip() for name, value in environ.items() if _SECRET.fullmatch(name)}
    headers = [part for name, value in environ.items() if _HEADERS.fullmatch(name) for part in value.split(",")]
    found |= {header.partition("=")[2].strip() for header in headers}
    return frozenset(value for value in found if len(value) >= SHORTEST_SECRET)

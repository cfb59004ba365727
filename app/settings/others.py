"""Secrets of other libraries in the environment: object stores and OpenTelemetry read their own variables."""

import re
from collections.abc import Mapping

_SECRET = re.compile(r"(?:AWS|AZURE|GOOGLE)_\w*(?:KEY|SECRET|TOKEN|SAS|PASSWORD)\w*")
_HEADERS = re.compile(r"OTEL_EXPORTER_OTLP_(?:TRACES_)?HEADERS")
# A shorter value may be a tenant number, for example: redacting it would remove it from every word that contains it.
SHORTEST_SECRET = 8


def secrets_of_others(environ: Mapping[str, str]) -> frozenset[str]:
    """The values that no log may show; of headers (`name=value,…`) the values, often a vendor's API key."""
    found = {value.strip() for name, value in environ.items() if _SECRET.fullmatch(name)}
    headers = [part for name, value in environ.items() if _HEADERS.fullmatch(name) for part in value.split(",")]
    found |= {header.partition("=")[2].strip() for header in headers}
    return frozenset(value for value in found if len(value) >= SHORTEST_SECRET)

"""What is known about Stripe's report types, from `app/catalogue/reports.yaml`: facts, and how certain each is.

What is unknown there stays unknown here: nothing is guessed into a table.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CATALOGUE = Path(__file__).parents[1] / "catalogue" / "reports.yaml"

# Every Stripe report with a `connected_account_` version names the account in a column of this name.
CONNECT_PREFIX = "connected_account_"
_METADATA = re.compile(r"([a-z_]+_metadata)\[(.*)\]", re.DOTALL)


class Kind(StrEnum):
    """What the values of a column are."""

    DECIMAL = "decimal"
    INTEGER = "integer"
    TIMESTAMP = "timestamp"
    TEXT = "text"


class Personal(StrEnum):
    """Whose data a column holds."""

    YES = "yes"  # a person's own: loaded only if a rule names it
    FREE_TEXT = "free_text"  # may hold a person's data: treated the same
    PSEUDONYM = "pseudonym"  # an id that leads to a person at Stripe: loaded
    NO = "no"

    @property
    def is_withheld(self) -> bool:
        """Whether such a column is loaded only on request and shown only in the personal schema."""
        return self in (Personal.YES, Personal.FREE_TEXT)


@dataclass(frozen=True, slots=True)
class Column:
    """A column known by name. `zone` says how to read its times: `utc`, `run` (the run's zone) or `date`."""

    name: str
    kind: Kind
    personal: Personal
    zone: str | None = None
    meaning: str | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """The versions of one report, which share a table. `row_key` is None where two equal lines can both be real."""

    id: str
    table: str
    grain: str
    row_key: tuple[str, ...] | None
    is_known: bool = True

    @property
    def is_summary(self) -> bool:
        """Whether a line is a sum (per category and currency) rather than a transaction."""
        return self.row_key == ("reporting_category", "currency")


@dataclass(frozen=True, slots=True)
class ReportTypeFacts:
    """One version: its columns as far as they are known, and how certain that is (`columns_mark`)."""

    id: str
    family: str
    columns: tuple[str, ...]
    mark: str
    default_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything, by name."""

    columns: Mapping[str, Column]
    families: Mapping[str, Family]
    report_types: Mapping[str, ReportTypeFacts]


@cache
def catalogue() -> Catalogue:
    """The catalogue, read once per process."""
    with CATALOGUE.open("rb") as file:
        raw = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders
    families = {id_: _family(id_, facts) for id_, facts in raw["families"].items()}
    return Catalogue(
        columns={name: _column(name, facts, raw["meanings"]) for name, facts in raw["columns"].items()},
        families=families,
        report_types={id_: _report_type(id_, facts) for id_, facts in raw["report_types"].items()},
    )


def family_of(report_type: str) -> Family:
    """The family of a report type; a family without known rows for a type that the catalogue does not have."""
    id_, _, version = report_type.rpartition(".")
    id_ = id_ if version.isdecimal() or version == "latest" else report_type
    known = catalogue().families.get(id_)
    return known or Family(id_, table_name(id_), "unknown", None, is_known=False)


def table_name(family: str) -> str:
    """The table of a family that has no name in the catalogue."""
    return family.replace(CONNECT_PREFIX, "connected_").replace(".", "_")


def find_column(name: str) -> Column | None:
    """What is known about a column by its exact name, or about a metadata column by its kind, whatever its key; or
    None."""
    known = catalogue().columns
    if (found := known.get(name)) is not None and not name.endswith("[key]"):
        return found
    if (metadata := _METADATA.fullmatch(name)) is not None:
        of_any_key = known.get(f"{metadata[1]}[key]")
        if of_any_key is not None:
            return Column(name, Kind.TEXT, of_any_key.personal, meaning=of_any_key.meaning)
    return None


def is_metadata(name: str) -> bool:
    """Whether the column holds one key of somebody's metadata, and so goes into the one JSON column."""
    return _METADATA.fullmatch(name) is not None


def _column(name: str, facts: Mapping[str, Any], meanings: Mapping[str, str]) -> Column:
    kind = "text" if facts["kind"] == "boolean_as_text" else facts["kind"]
    return Column(name, Kind(kind), Personal(facts["personal"]), facts.get("zone"), meanings.get(name))


def _family(id_: str, facts: Mapping[str, Any]) -> Family:
    key = facts["row_key"]
    return Family(id_, facts["table"], facts["grain"], None if key is None else tuple(key))


def _report_type(id_: str, facts: Mapping[str, Any]) -> ReportTypeFacts:
    defaults = tuple(facts.get("default_columns", ()))
    return ReportTypeFacts(id_, facts["family"], tuple(facts["columns"]), facts["columns_mark"], defaults)

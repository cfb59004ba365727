"""What is known about Stripe's report types, read from `app/catalogue/reports.yaml`: parameters, columns, their order.

The simulator follows these facts, and guesses where they are silent: unknown defaults of a version are those of the
family's newest known version; an unknown type is written like plain activity."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

CONNECTED_PREFIX = "connected_account_"
WINDOW = frozenset({"interval_start", "interval_end"})
# No reference documents it, but clients send it: every type accepts it.
ANYWHERE = frozenset({"compress_file"})

METADATA = re.compile(r"(payment|refund|transfer|invoice|credit_note|tax_transaction)_metadata\[[^\[\]]+\]")
_PLAIN = "balance_change_from_activity.itemized.7"


@dataclass(frozen=True, slots=True)
class Template:
    """A report type's parameters and columns. `default_columns` are those of the API, `file_columns` their order in a
    file for which no columns were chosen."""

    id: str
    family: str
    name: str
    required: frozenset[str]
    optional: frozenset[str]
    live_only: bool
    columns: tuple[str, ...]
    default_columns: tuple[str, ...]
    file_columns: tuple[str, ...]
    also: frozenset[str] = frozenset()
    """Columns that only another version is known to have, if the type's own list may have gaps."""

    @property
    def connected(self) -> bool:
        """Whether it is about connected accounts: one, some, or all of them in one file."""
        return self.id.startswith(CONNECTED_PREFIX)

    def knows(self, column: str) -> bool:
        """Whether the column can be requested; metadata columns with any key."""
        if METADATA.fullmatch(column):
            column = column.partition("[")[0] + "[key]"
        return column in self.columns or column in self.also


@cache
def facts() -> dict[str, Any]:
    text = files("app").joinpath("catalogue/reports.yaml").read_text(encoding="utf-8")
    # The C parser is ten times as fast; not every build of the library has it.
    loaded: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    return loaded


@cache
def catalogue() -> Mapping[str, Template]:
    """The types of an account: those with known columns, in the order of the catalogue."""
    return {name: _template(name) for name, known in facts()["report_types"].items() if known["columns"]}


@cache
def template_for(identifier: str) -> Template:
    """The facts about an id or, if the catalogue does not have it, about the nearest one."""
    known = catalogue().get(identifier)
    if known is not None:
        return known
    family, _, _ = identifier.rpartition(".")
    sisters = _versions(family) or _versions(family.removeprefix(CONNECTED_PREFIX))
    if not sisters:
        sisters = [_PLAIN.replace("itemized.7", "summary.2") if ".summary." in identifier else _PLAIN]
    nearest = _template(sisters[0])
    listed = facts()["report_types"].get(identifier)
    required, optional = _parameters(listed) if listed else (nearest.required, nearest.optional)
    if ".by_id." in identifier:
        required = required - WINDOW | {"payout"}
    return replace(
        nearest, id=identifier, family=family, name=_title(family), required=required, optional=optional - required
    )


def _template(identifier: str) -> Template:
    known = facts()["report_types"][identifier]
    required, optional = _parameters(known)
    columns = tuple(known["columns"])
    default = tuple(known.get("default_columns") or _default_like_a_sister(known, columns))
    return Template(
        id=identifier,
        family=known["family"],
        name=_title(known["family"]),
        required=required,
        optional=optional,
        live_only=known.get("live_only", False),
        columns=columns,
        default_columns=default,
        file_columns=tuple(known.get("file_columns") or default),
        also=frozenset() if known["columns_complete"] else _columns_of_sisters(known),
    )


def _parameters(known: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(known["required"]), frozenset(known["optional"]) | ANYWHERE


def _default_like_a_sister(known: Mapping[str, Any], columns: tuple[str, ...]) -> Iterable[str]:
    """The newest defaults of the family that this version has as columns; otherwise all columns that are not
    personal."""
    family = known["family"]
    for name in _versions(family) + _versions(family.removeprefix(CONNECTED_PREFIX)):
        sister = facts()["report_types"][name].get("default_columns")
        if sister:
            own = (next((name for name in (wanted, wanted + "_utc") if name in columns), None) for wanted in sister)
            return [name for name in own if name is not None]
    explained = facts()["columns"]
    return [name for name in columns if explained[name]["personal"] in ("no", "pseudonym")]


def _columns_of_sisters(known: Mapping[str, Any]) -> frozenset[str]:
    """The columns of another version of the family; times in the run's zone only if a zone can be given."""
    explained = facts()["columns"]
    return frozenset(
        column
        for name in _versions(known["family"])
        for column in facts()["report_types"][name]["columns"]
        if "timezone" in known["optional"] or explained[column].get("zone") != "run"
    )


def _versions(family: str) -> list[str]:
    """The ids of a family that have columns, newest first."""
    versions = facts()["families"].get(family, {}).get("versions", ())
    ids = [f"{family}.{version}" for version in sorted(versions, reverse=True)]
    return [name for name in ids if facts()["report_types"][name]["columns"]]


def _title(family: str) -> str:
    """`payouts.itemized` → `Itemized payouts`."""
    name, _, kind = family.rpartition(".")
    words = (name or kind).replace(".", " ").replace("_", " ")
    return (f"itemized {words}" if kind == "itemized" else f"{words} {kind}").strip().capitalize()


# The values of `parameters.reporting_category` (a row filter) in the API of 2026.
# fmt: off
REPORTING_CATEGORIES = frozenset({
    "advance", "advance_funding", "anticipation_repayment", "charge", "charge_failure", "climate_order_purchase",
    "climate_order_refund", "connect_collection_transfer", "connect_reserved_funds", "contribution", "dispute",
    "dispute_reversal", "fee", "financing_paydown", "financing_paydown_reversal", "financing_payout",
    "financing_payout_reversal", "issuing_authorization_hold", "issuing_authorization_release", "issuing_dispute",
    "issuing_transaction", "network_cost", "other_adjustment", "partial_capture_reversal", "payout",
    "payout_reversal", "platform_earning", "platform_earning_refund", "refund", "refund_failure",
    "risk_reserved_funds", "tax", "topup", "topup_reversal", "transfer", "transfer_reversal",
    "unreconciled_customer_funds",
})
# fmt: on

"""The schemas of rules: to create, change and show them."""

import uuid
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from fastapi import Path
from pydantic import AfterValidator, Field, PlainSerializer, StrictBool, ValidationInfo, create_model, field_validator

from app.api.schemas.common import (
    LONGEST_LIST,
    ConnectedAccounts,
    Day,
    In,
    Name,
    Out,
    Parameters,
    ReportTypeId,
    Slug,
    Time,
    ZoneName,
)
from app.rules.rule import RULE_FIELDS, NewRule, today_in
from app.settings import DEFAULT_ACCOUNT
from app.vocabulary import Cadence

_A_CENTURY_DAYS = 36_525
_A_YEAR_HOURS = 8_784
_A_YEAR_DAYS = 366

SettleHours = Annotated[
    float,
    Field(ge=0, le=_A_YEAR_HOURS, allow_inf_nan=False, strict=True, description="How long data may still change."),
]
RetentionDays = Annotated[
    int,
    Field(ge=1, le=_A_CENTURY_DAYS, strict=True, description="Days after which files are removed; null keeps them."),
]

RecheckDays = Annotated[
    list[Annotated[int, Field(ge=1, le=_A_YEAR_DAYS, strict=True)]],
    Field(max_length=10, description="Request the report again this many days after a window was first stored."),
]
_ColumnName = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]


def _as_json(value: object) -> object:
    return value.model_dump() if isinstance(value, RuleTableIn) else value


# Fields with another name outside: a keyword of Python cannot name one.
ALIASES = {"excepted": "except"}

RuleRef = Annotated[str, Path(description="The rule's id, or its name.", min_length=1)]


class RuleTableIn(In):
    """What is done with the rows of a rule's files. A change replaces it as a whole: without `personal` that list is
    empty, and its columns are removed from the tables."""

    state: Literal["auto", "leading", "kept", "off"] = Field(
        default="auto",
        description="`auto`: views show its rows unless another rule leads; `leading`: they do; `kept`: they do not;"
        " `off`: its files are not loaded, and rows that were loaded are removed.",
    )
    personal: Annotated[list[_ColumnName], Field(max_length=LONGEST_LIST)] = Field(
        default_factory=list, description="Personal columns to load anyway; only the personal schema shows them."
    )


# Kept as JSON: the database's column is one.
RuleTable = Annotated[RuleTableIn, AfterValidator(_as_json), PlainSerializer(_as_json, return_type=dict[str, Any])]


class RuleIn(In):
    """A new rule."""

    name: Name
    account: Slug = DEFAULT_ACCOUNT
    report_type: ReportTypeId = Field(description="With its version, or `.latest` for the highest that has data.")
    enabled: StrictBool = True
    cadence: Cadence
    timezone: ZoneName = "UTC"
    starts_on: Day | None = Field(default=None, description="Default: today, in the rule's time zone.")
    settle_hours: SettleHours = 0.0
    parameters: Parameters = Field(default_factory=dict)
    connected_accounts: ConnectedAccounts = Field(default_factory=list)
    retention_days: RetentionDays | None = None
    connected: Literal["none", "listed", "each", "together"] | None = Field(
        default=None,
        description="By default derived from `connected_accounts`; stating the derived value changes nothing.",
    )
    table: RuleTable = Field(default_factory=RuleTableIn, validate_default=True)
    recheck_days: RecheckDays = Field(default_factory=list)
    excepted: ConnectedAccounts = Field(
        default_factory=list, alias="except", description="Connected accounts that `each` and `together` leave out."
    )

    def as_new(self) -> NewRule:
        """The core's rule; without a start it begins today, in its own zone."""
        given = {name: getattr(self, name) for name in RULE_FIELDS}
        return NewRule(**given | {"starts_on": self.starts_on or today_in(self.timezone)})


def refuse_null(value: object, info: ValidationInfo) -> object:
    """In a change, only `retention_days` may be null."""
    if value is None and info.field_name != "retention_days":
        raise ValueError("cannot be null; omit it to keep its value")
    return value


class _Change(In):
    """Changes to a rule; omitted fields stay as they are."""

    @field_validator("*", mode="before")
    @classmethod
    def _only_retention_may_be_null(cls, value: object, info: ValidationInfo) -> object:
        return refuse_null(value, info)

    def given(self) -> dict[str, Any]:
        """The given fields of a rule, whatever their values."""
        return {name: getattr(self, name) for name in self.model_fields_set if name in RULE_FIELDS}

    def applied_to(self, saved: NewRule) -> NewRule:
        """The wanted rule."""
        return replace(saved, **self.given())


if TYPE_CHECKING:
    RuleChange = _Change
else:
    # The fields of a new rule, each of which may be left out.
    RuleChange = create_model(
        "RuleChange",
        __base__=_Change,
        __doc__=_Change.__doc__,
        **{
            name: (hint | None, Field(default=None, alias=ALIASES.get(name)))
            for name, hint in get_type_hints(RuleIn, include_extras=True).items()
            if name in RULE_FIELDS
        },
    )


class WarningOut(Out):
    """Something that is allowed but probably a mistake."""

    pointer: str
    detail: str


class RuleTableOut(Out):
    """What is done with the rows of a rule's files."""

    state: str
    personal: list[str]
    leads: bool = Field(default=False, description="Whether the plain view of its table shows its rows now.")


class RuleOut(Out):
    """A rule as it is."""

    id: uuid.UUID
    name: str
    account: str
    report_type: str
    enabled: bool
    cadence: Cadence
    timezone: str
    starts_on: date
    settle_hours: float
    parameters: dict[str, object]
    connected_accounts: list[str]
    retention_days: int | None
    connected: str = Field(
        description="`none`, `listed` (a run per account), `each` (the same, for all accounts) or `together` (one run)."
    )
    table: RuleTableOut
    recheck_days: list[int]
    excepted: list[str] = Field(serialization_alias="except")
    version: int = Field(description="The ETag, in quotes; raised by every change.")
    created_at: Time
    updated_at: Time
    warnings: list[WarningOut] = Field(default_factory=list)


class ChangedRuleOut(RuleOut):
    """A rule after the change, and the effects."""

    asks_for: int = Field(description="How many runs this plans now, for all accounts of the rule.")

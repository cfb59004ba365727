"""The shapes of rules: as they are made, changed and shown."""

import uuid
from datetime import date
from typing import Annotated, Any

from pydantic import Field, StrictBool, ValidationInfo, field_validator

from app.api.schemas.common import ConnectedAccounts, Day, In, Name, Out, Parameters, ReportTypeId, Slug, Time, ZoneName
from app.settings import DEFAULT_ACCOUNT
from app.vocabulary import Cadence

_A_CENTURY_DAYS = 36_525
_A_YEAR_HOURS = 8_784

SettleHours = Annotated[
    float,
    Field(ge=0, le=_A_YEAR_HOURS, allow_inf_nan=False, strict=True, description="How long data may still change."),
]
RetentionDays = Annotated[
    int, Field(ge=1, le=_A_CENTURY_DAYS, strict=True, description="Files are removed after this; null keeps them.")
]


class RuleIn(In):
    """A new rule."""

    name: Name
    account: Slug = DEFAULT_ACCOUNT
    report_type: ReportTypeId
    enabled: StrictBool = True
    cadence: Cadence
    timezone: ZoneName = "UTC"
    starts_on: Day | None = Field(default=None, description="Default: today, in the rule's time zone.")
    settle_hours: SettleHours = 0.0
    parameters: Parameters = Field(default_factory=dict)
    connected_accounts: ConnectedAccounts = Field(default_factory=list)
    retention_days: RetentionDays | None = None


def refuse_null(value: object, info: ValidationInfo) -> object:
    """In a change null means something for `retention_days` alone."""
    if value is None and info.field_name != "retention_days":
        raise ValueError("cannot be null; leave it out to keep it as it is")
    return value


class RuleChange(In):
    """What is to change of a rule; what is left out stays as it is."""

    name: Name | None = None
    account: Slug | None = None
    report_type: ReportTypeId | None = None
    enabled: StrictBool | None = None
    cadence: Cadence | None = None
    timezone: ZoneName | None = None
    starts_on: Day | None = None
    settle_hours: SettleHours | None = None
    parameters: Parameters | None = None
    connected_accounts: ConnectedAccounts | None = None
    retention_days: RetentionDays | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _only_retention_may_be_null(cls, value: object, info: ValidationInfo) -> object:
        return refuse_null(value, info)

    def given(self) -> dict[str, Any]:
        """The fields that were given, whatever their values."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class WarningOut(Out):
    """Something that may be meant, and probably is not."""

    pointer: str
    detail: str


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
    version: int = Field(description="The ETag, in quotes; raised by every change.")
    created_at: Time
    updated_at: Time
    warnings: list[WarningOut] = Field(default_factory=list)

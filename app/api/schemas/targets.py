"""The schemas of targets, messages and deliveries."""

import uuid
from typing import Annotated, Any

from pydantic import Field, StrictBool

from app.api.schemas.common import In, Moment, Name, Out, Slug, Time
from app.vocabulary import DeliveryState, MessageType, TargetKind

_MOST = 1_000
Url = Annotated[str, Field(min_length=1, max_length=2_000)]
MessageTypes = Annotated[list[str], Field(min_length=1, max_length=len(MessageType) + 1)]
Recipients = Annotated[list[Annotated[str, Field(max_length=320)]], Field(max_length=100)]
RuleNames = Annotated[list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=_MOST)]
Slugs = Annotated[list[Slug], Field(min_length=1, max_length=_MOST)]


class TargetIn(In):
    """A new target."""

    name: Name
    kind: TargetKind
    url: Url | None = Field(
        default=None, description="The URL of a webhook or folder; for Slack, the name of one of TALLYHOOK_SLACK_URLS."
    )
    recipients: Recipients = Field(default_factory=list, description="Of e-mail.")
    message_types: MessageTypes = Field(default_factory=lambda: ["*"], description="`*` means all types.")
    rules: RuleNames | None = Field(default=None, description="Names or ids; null means all rules.")
    accounts: Slugs | None = Field(default=None, description="Null means all accounts.")
    enabled: StrictBool = True


class TargetChange(In):
    """Changes to a target; omitted fields stay as they are. `kind` is fixed."""

    name: Name | None = None
    url: Url | None = None
    recipients: Recipients | None = None
    message_types: MessageTypes | None = None
    rules: RuleNames | None = None
    accounts: Slugs | None = None
    enabled: StrictBool | None = None


class TargetOut(Out):
    """A target."""

    id: uuid.UUID
    name: str
    kind: TargetKind | str
    url: str | None
    recipients: list[str]
    message_types: list[str]
    rules: list[uuid.UUID] | None = Field(validation_alias="rule_ids")
    accounts: list[str] | None
    enabled: bool
    disabled_reason: str | None
    failing_since: Time | None = Field(description="Time of the first failure after the last success.")
    previous_until: Time | None = Field(description="Until then the previous secret signs too.")
    version: int = Field(description="The ETag, in quotes; raised by every change.")
    created_at: Time
    updated_at: Time


class NewTargetOut(TargetOut):
    """A new target. `secret` is shown here and by POST …/secret."""

    secret: str | None = Field(description="The receiver of a webhook verifies signatures with it.")


class SecretOut(Out):
    """The receiver verifies signatures with it (Standard Webhooks)."""

    secret: str


class RotateIn(In):
    """How long the previous secret stays valid."""

    overlap_hours: Annotated[float, Field(ge=0, le=24 * 90)] = 24.0


class RecoverIn(In):
    """Failed and skipped messages since then are sent again."""

    since: Moment = Field(description="RFC 3339, with an offset.")


class RecoveredOut(Out):
    """How many messages are sent again."""

    recovered: int


class TestOut(Out):
    """What a target answered to a `ping`."""

    delivered: bool
    status: int | None
    error: str | None
    milliseconds: int
    answer: str | None = Field(description="The first kibibyte, redacted.")


class DeliveryOut(Out):
    """A message on its way to one target."""

    message_id: uuid.UUID
    target_id: uuid.UUID
    target: str = Field(description="Its name.")
    type: MessageType | str
    state: DeliveryState | str
    tries: int
    due_at: Time | None = Field(description="When it is tried next, while it is pending.")
    delivered_at: Time | None
    last_status: int | None
    last_error: str | None


class AttemptOut(Out):
    """One try to deliver a message."""

    target_id: uuid.UUID
    number: int
    at: Time
    milliseconds: int
    status: int | None
    error: str | None
    answer: str | None


class MessageOut(Out):
    """What happened."""

    id: uuid.UUID
    type: MessageType | str
    account: str | None
    rule_id: uuid.UUID | None
    subject: str | None
    created_at: Time


class MessageDetailOut(MessageOut):
    """A message with its body, and its state at every target."""

    body: dict[str, Any] = Field(description="The body that webhooks send.")
    deliveries: list[DeliveryOut]
    attempts: list[AttemptOut]


class MessageTypeOut(Out):
    """A type of message."""

    type: MessageType
    description: str
    lasting: bool = Field(
        description="Whether it is about a lasting state: sent once when that begins and once when it ends."
    )
    example: dict[str, Any] = Field(description="The body that a webhook sends.")

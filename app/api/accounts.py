"""The accounts: whose keys they have, what Stripe refuses them, what is pending, how far their data reaches."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from app.api.http.dependencies import Res, Session
from app.api.http.paging import page_of, read_cursor
from app.api.schemas.common import Out, Page, PageIn, Slug, Time
from app.errors import NotFound
from app.health.account_rows import AccountRow, HoldRow, holds_of, list_accounts
from app.observability.logs import redact
from app.resources import Resources
from app.vocabulary import CallKind

router = APIRouter(prefix="/v1/accounts", tags=["accounts"])


class HoldOut(Out):
    """A kind of call that Stripe refuses the key for."""

    call_kind: CallKind
    reason: str
    since: Time
    next_probe_at: Time | None = Field(description="Null: only proof that the key is the right one ends this.")


class LimitsOut(Out):
    """How many runs are pending at Stripe, across all processes, and the limit."""

    pending_runs: int
    max_pending_runs: int
    requests_per_second: float = Field(description="To each kind of endpoint; 0 means no limit.")


class AvailabilityOut(Out):
    """What the account can run."""

    report_types: int = Field(description="How many of its report types have data.")
    data_available_end: Time | None = Field(description="End of the data of the most current one; exclusive.")
    refreshed_at: Time | None


class AccountOut(Out):
    """An account of the settings, now or in the past, and its rows."""

    account: str
    stripe_account_id: str | None = Field(description="The Stripe account that the name is bound to, by its first key.")
    livemode: bool | None
    stripe_account: str | None = Field(description="The connected account that a platform's key is used for.")
    stripe_context: str | None = Field(description="The account that an organization's key is used for.")
    has_key: bool = Field(description="Whether there is an API key: without one nothing can be requested.")
    webhook_secrets: int = Field(description="How many signing secrets are accepted.")
    holds: list[HoldOut]
    limits: LimitsOut
    availability: AvailabilityOut
    created_at: Time


@router.get("")
async def list_all_accounts(res: Res, session: Session, asked: Annotated[PageIn, Query()]) -> Page[AccountOut]:
    """All accounts by name, also those that are no longer configured: their reports are still here."""
    (after,) = read_cursor("accounts", asked.cursor, parts=1) if asked.cursor else ("",)
    timeout = res.settings.run_timeout_seconds
    found = await list_accounts(session, timeout=timeout, after=after, limit=asked.limit + 1)
    holds = await holds_of(session, [row.slug for row in found])
    shown = [_shown(res, row, holds[row.slug]) for row in found]
    return page_of("accounts", shown, asked.limit, lambda account: [account.account])


@router.get("/{account}")
async def read_account(res: Res, session: Session, account: Annotated[Slug, Path()]) -> AccountOut:
    """One account."""
    found = await list_accounts(session, timeout=res.settings.run_timeout_seconds, only=account, limit=1)
    if not found:
        raise NotFound(f"there is no account {account}")
    holds = await holds_of(session, [account])
    return _shown(res, found[0], holds[account])


def _shown(res: Resources, row: AccountRow, holds: Sequence[HoldRow]) -> AccountOut:
    configured = res.settings.accounts.get(row.slug)
    return AccountOut(
        account=row.slug,
        stripe_account_id=row.stripe_account_id,
        livemode=configured.livemode if row.livemode is None and configured else row.livemode,
        stripe_account=configured and configured.stripe_account,
        stripe_context=configured and configured.stripe_context,
        has_key=configured is not None and configured.api_key is not None,
        webhook_secrets=len(configured.webhook_secrets) if configured else 0,
        holds=[
            HoldOut(
                call_kind=CallKind(hold.call_kind),
                reason=redact(hold.reason),
                since=hold.since,
                next_probe_at=hold.next_probe_at,
            )
            for hold in holds
        ],
        limits=LimitsOut(
            pending_runs=row.pending_runs,
            max_pending_runs=res.settings.max_pending_runs,
            requests_per_second=res.settings.requests_per_second,
        ),
        availability=AvailabilityOut.model_validate(row),
        created_at=row.created_at,
    )

"""Accounts: which Stripe account each key belongs to, what Stripe refuses, what is pending, how far the data reaches.
Those that are stored in rows are added, changed and removed here.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field, SecretStr, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.accounts import kept, reconciliations
from app.api.http.dependencies import CalledBy, Res, Session, TheSettings, for_every_account
from app.api.http.paging import page_of, read_cursor
from app.api.http.problems import field_errors
from app.api.schemas.common import In, Out, Page, PageIn, Slug, Time
from app.errors import BadInput, CannotOpen, Conflict, FieldError, NotFound
from app.health.account_rows import AccountRow, HoldRow, holds_of, list_accounts
from app.keys import rows as key_rows
from app.keys.rows import Sealed
from app.observability.logs import redact
from app.resources import Resources
from app.rules.store import names_of_rules
from app.settings import AccountEntry, Settings
from app.settings.accounts import DOUBLED, account_of, doubled
from app.settings.fields import ApiKey, SigningSecrets, StripeAccountId, StripeContext
from app.vocabulary import CallKind

# How many of the rules that prevent a removal are named.
NAMED_RULES = 5
router = APIRouter(prefix="/v1/accounts", tags=["accounts"])


class HoldOut(Out):
    """A kind of call that Stripe refuses the key for."""

    call_kind: CallKind
    reason: str
    since: Time
    next_probe_at: Time | None = Field(description="Null: ends only when the key is proved to be the right one.")


class LimitsOut(Out):
    """How many runs are pending at Stripe, across all processes, and the limit."""

    pending_runs: int
    max_pending_runs: int
    requests_per_second: float = Field(description="Per kind of call (create, read, files); 0 means no limit.")


class AvailabilityOut(Out):
    """What the account can run."""

    report_types: int = Field(description="How many of its report types have data.")
    data_available_end: Time | None = Field(description="Where the newest data of any type ends; exclusive.")
    refreshed_at: Time | None


class AccountOut(Out):
    """An account that is or was configured, and its state."""

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
    kept_in: Literal["settings", "rows"] | None = Field(
        description="Where its key is: in the settings, or in a row (added by `POST /v1/accounts`). Null: nowhere."
    )
    trouble: str | None = Field(description="Why the keys in its row are not used.")
    created_at: Time


class AccountChangeIn(In):
    """What an account's calls are made with. None of it is ever shown again."""

    api_key: ApiKey | None = None
    webhook_secrets: SigningSecrets = ()
    stripe_account: StripeAccountId | None = Field(default=None, description="For a platform's key: acct_…")
    stripe_context: StripeContext | None = Field(default=None, description="For an organization's key: acct_…")


class AccountIn(AccountChangeIn):
    """A new account."""

    account: Slug


@router.get("")
async def list_all_accounts(
    settings: TheSettings, session: Session, asked: Annotated[PageIn, Query()]
) -> Page[AccountOut]:
    """All accounts by name, also those that are no longer configured: their reports are still here."""
    (after,) = read_cursor("accounts", asked.cursor, parts=1) if asked.cursor else ("",)
    timeout = settings.run_timeout_seconds
    found = await list_accounts(session, timeout=timeout, after=after, limit=asked.limit + 1)
    holds = await holds_of(session, [row.slug for row in found])
    shown = [_shown(settings, row, holds[row.slug]) for row in found]
    return page_of("accounts", shown, asked.limit, lambda account: [account.account])


@router.get("/{account}")
async def read_account(settings: TheSettings, session: Session, account: Annotated[Slug, Path()]) -> AccountOut:
    """One account."""
    found = await list_accounts(session, timeout=settings.run_timeout_seconds, only=account, limit=1)
    if not found:
        raise NotFound(f"there is no account {account}")
    holds = await holds_of(session, [account])
    return _shown(settings, found[0], holds[account])


@router.post("", status_code=201)
async def add_account(res: Res, caller: CalledBy, new: AccountIn, response: Response) -> AccountOut:
    """Keep a new account in the database, its keys as ciphertext. Every process uses it at once."""
    for_every_account(res)
    keys = _encryption_keys(res)
    if new.account in res.settings.accounts.configured:
        raise Conflict(f"the settings already have an account {new.account}: choose another name")
    entry = _entry(res, new.account, {name: getattr(new, name) for name in AccountChangeIn.model_fields})
    async with res.sessions.begin() as session:
        if not await key_rows.add(session, new.account, entry, keys):
            raise Conflict(f"there is already an account {new.account}: change it with PATCH")
        await audit.note(
            session, actor=caller.name, action="account.added", subject=new.account, after=_given(new.model_fields_set)
        )
    await kept.take_up(res)
    response.headers["Location"] = f"/v1/accounts/{new.account}"
    return await _one(res, new.account)


@router.patch("/{account}")
async def change_account(
    res: Res, caller: CalledBy, account: Annotated[Slug, Path()], change: AccountChangeIn
) -> AccountOut:
    """Change the given fields: a new key is used for the next call, in every process."""
    for_every_account(res)
    keys = _encryption_keys(res)
    async with res.sessions.begin() as session:
        old = await _locked(session, account, res.settings)
        given = {name: getattr(change, name) for name in change.model_fields_set}
        try:
            entry = _entry(res, account, {**_fields(old.open(keys)), **given})
        except CannotOpen as error:
            raise Conflict(f"{error}. Remove the account and add it again, or put that key back") from error
        await key_rows.change(session, account, entry, keys)
        await reconciliations.make_due(session, account)
        await audit.note(
            session, actor=caller.name, action="account.changed", subject=account, after=_given(change.model_fields_set)
        )
    await kept.take_up(res)
    return await _one(res, account)


@router.delete("/{account}", status_code=204)
async def remove_account(res: Res, caller: CalledBy, account: Annotated[Slug, Path()]) -> None:
    """Forget the account's keys. Its reports stay; rules that name it must be deleted first."""
    for_every_account(res)
    async with res.sessions.begin() as session:
        await _locked(session, account, res.settings)
        if rules := await names_of_rules(session, account, limit=NAMED_RULES):
            raise Conflict(f"rules name this account: {', '.join(rules)}. Delete them first, or disable and keep them")
        await key_rows.remove(session, account)
        await audit.note(session, actor=caller.name, action="account.removed", subject=account)
    await kept.take_up(res)


async def _locked(session: AsyncSession, account: str, settings: Settings) -> Sealed:
    row = await key_rows.lock(session, account)
    if row is not None:
        return row
    if account in settings.accounts.configured:
        raise Conflict(f"the account {account} is defined in the settings: change it there")
    raise NotFound(f"there is no account {account} that the API can change")


def _encryption_keys(res: Resources) -> Sequence[SecretStr]:
    keys = res.settings.key_encryption_key
    if not keys:
        problem = (
            "needs TALLYHOOK_KEY_ENCRYPTION_KEY, which encrypts the account's keys: set it for every process "
            "to the output of `openssl rand -base64 32`"
        )
        raise BadInput(FieldError("", problem))
    return keys


def _entry(res: Resources, account: str, fields: Mapping[str, object]) -> AccountEntry:
    """The account as it is kept. Raises BadInput if it makes no sense, alone or together with the others."""
    try:
        entry = AccountEntry.model_validate(dict(fields))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise BadInput(*field_errors([{**one, "loc": ("body", *one["loc"])} for one in found])) from None
    if doubled([*(one for one in res.settings.accounts.values() if one.slug != account), account_of(account, entry)]):
        raise BadInput(FieldError("", DOUBLED))
    return entry


def _fields(entry: AccountEntry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in AccountEntry.model_fields}


def _given(names: AbstractSet[str]) -> dict[str, list[str]]:
    """For the audit log: what was given, by name only."""
    return {"given": sorted(names - {"account"})}


async def _one(res: Resources, account: str) -> AccountOut:
    async with res.sessions.begin() as session:
        return await read_account(res.settings, session, account)


def _shown(settings: Settings, row: AccountRow, holds: Sequence[HoldRow]) -> AccountOut:
    accounts = settings.accounts
    configured = accounts.get(row.slug)
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
            max_pending_runs=settings.max_pending_runs,
            requests_per_second=settings.requests_per_second,
        ),
        availability=AvailabilityOut.model_validate(row),
        kept_in=None if configured is None else "settings" if row.slug in accounts.configured else "rows",
        trouble=accounts.problems.get(row.slug),
        created_at=row.created_at,
    )

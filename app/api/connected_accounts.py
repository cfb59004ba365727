"""The accounts that are connected to ours: which exist, since when, and which have left."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from app.accounts.connected import ConnectedFilters, list_known
from app.api.http.dependencies import Session
from app.api.http.paging import page_of, read_cursor
from app.api.schemas.common import ConnectedAccount, Out, Page, PageIn, Slug, Time

router = APIRouter(prefix="/v1/connected-accounts", tags=["accounts"])


class ConnectedAccountsIn(PageIn):
    """Which connected accounts to list, and where to start."""

    account: Slug | None = Field(default=None, description="Only those of this account.")
    id: ConnectedAccount | None = Field(
        default=None, description="The one with this id, under every account that has it."
    )
    left: bool | None = Field(default=None, description="Only those that have left, or only those that have not.")


class ConnectedAccountOut(Out):
    """An account that is, or was, connected to one of ours."""

    account: str
    id: str
    name: str | None
    country: str | None
    stripe_created_at: Time = Field(description="`connected: each` runs for it from this local day on.")
    first_seen_at: Time
    seen_at: Time | None = Field(description="When Stripe last showed it.")
    left_at: Time | None = Field(description="When it left, if that was noticed.")
    source: str = Field(description="How it first became known: `list` (Stripe's list) or `event`.")


@router.get("")
async def list_connected_accounts(
    session: Session, asked: Annotated[ConnectedAccountsIn, Query()]
) -> Page[ConnectedAccountOut]:
    """All that Stripe has listed, by account and id. Stripe is asked if a rule runs for connected accounts."""
    filters = ConnectedFilters(asked.account, asked.left, asked.id)
    after = None
    if asked.cursor is not None:
        account, id_ = read_cursor("connected-accounts", asked.cursor, parts=2)
        after = (account, id_)
    found = await list_known(session, filters, after=after, limit=asked.limit + 1)
    shown = [ConnectedAccountOut.model_validate(one) for one in found]
    return page_of("connected-accounts", shown, asked.limit, lambda one: [one.account, one.id])

"""FastAPI dependencies of the endpoints: the resources or what to read with, and the caller.

Endpoints that write take `Res` and open `res.sessions.begin()` themselves: they must commit before they answer. Those
that read take `Session`, and `TheSettings` or `Terms` if they need more. All are coroutines: FastAPI gives anything
else a thread for each request.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.http.tokens import Caller
from app.errors import Forbidden
from app.resources import ClaimTerms, Resources, limited_to
from app.settings import Settings

# For the OpenAPI document only: the middleware has checked the token before routing.
bearer = HTTPBearer(
    auto_error=False, description="TALLYHOOK_ADMIN_TOKEN, TALLYHOOK_READ_TOKEN, or one of TALLYHOOK_TOKENS"
)


async def _resources(request: Request) -> Resources:
    res: Resources = request.app.state.res
    caller: Caller | None = getattr(request.state, "caller", None)
    return res if caller is None or caller.accounts is None else limited_to(res, caller.accounts)


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


def for_every_account(res: Resources, what: str = "this") -> None:
    """Refuse a caller who is limited to some accounts: `what` concerns all of them. Raises Forbidden."""
    if res.scope is not None:
        raise Forbidden(f"this token is limited to {', '.join(sorted(res.scope))}, and {what} concerns every account")


Res = Annotated[Resources, Depends(_resources)]
CalledBy = Annotated[Caller, Depends(_caller)]


async def _session(res: Res) -> AsyncIterator[AsyncSession]:
    async with res.sessions.begin() as session:
        yield session


# Closed before the answer is sent: a stalled client does not hold a database connection.
Session = Annotated[AsyncSession, Depends(_session, scope="function")]


async def _settings(res: Res) -> Settings:
    return res.settings


async def _claim_terms(res: Res) -> ClaimTerms:
    return res.claim_terms


TheSettings = Annotated[Settings, Depends(_settings)]
Terms = Annotated[ClaimTerms, Depends(_claim_terms)]

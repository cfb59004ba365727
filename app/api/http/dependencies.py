"""What endpoints may ask for: the resources, whose request it is, and a session to read with.

Endpoints that write open `res.sessions.begin()` themselves: the commit has to come before the answer.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.http.tokens import Caller
from app.resources import Resources

# Only described here: the middleware has checked the token before any route is looked for.
bearer = HTTPBearer(
    auto_error=False, description="TALLYHOOK_ADMIN_TOKEN, TALLYHOOK_READ_TOKEN, or one of TALLYHOOK_TOKENS"
)


def _resources(request: Request) -> Resources:
    res: Resources = request.app.state.res
    return res


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


Res = Annotated[Resources, Depends(_resources)]
CalledBy = Annotated[Caller, Depends(_caller)]


async def _session(res: Res) -> AsyncIterator[AsyncSession]:
    async with res.sessions() as session:
        yield session


# Closed before the answer goes out: a reader that stalls holds no connection.
Session = Annotated[AsyncSession, Depends(_session, scope="function")]

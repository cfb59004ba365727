"""The only route of the API that the pages need: a link that logs somebody in who has no token."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from app.api.http.dependencies import CalledBy, Res
from app.api.schemas.common import In, Name, Out, Time
from app.vocabulary import Role
from app.web import sessions

router = APIRouter(prefix="/v1/login-links", tags=["pages"])

Who = Annotated[Name | None, Field(description="The user, as the audit log shows it. Default: the token's own name.")]


class LoginLinkIn(In):
    """The user that the link logs in."""

    name: Who = None
    role: Role = Field(default=Role.READ, description="What that person may do.")


class LoginLinkOut(Out):
    """A link that logs in once, within five minutes."""

    url: str
    expires_at: Time


@router.post("", status_code=201)
async def create_login_link(
    res: Res, caller: CalledBy, request: Request, response: Response, asked: LoginLinkIn | None = None
) -> LoginLinkOut:
    """A link to the pages for one person. Opening it does not use it up; its button logs in, once."""
    asked = asked or LoginLinkIn(role=caller.role)
    async with res.sessions.begin() as session:
        link, expires_at = await sessions.make_link(
            session, name=asked.name or caller.name, role=asked.role, origin=caller.origin, by=caller.name
        )
    base = res.settings.public_url or f"{request.url.scheme}://{request.url.netloc}{res.settings.base_path}"
    response.headers["Location"] = url = link_address(base, link)
    return LoginLinkOut(url=url, expires_at=expires_at)


def link_address(base: str, link: str) -> str:
    """The address of a link, below the public URL of this service."""
    return f"{base}/login?link={link}"

"""The admin API that commands talk to: of a server (`--url`, `--token`), or in this process over its own database.

So each command is written once: an async function that takes an `Api`, registered by `command`.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from app.cli.values import whole
from app.errors import TallyhookError

if TYPE_CHECKING:
    import httpx

P = ParamSpec("P")
PAGE = 100
SECONDS = 60.0

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(help="At most this many.", parser=whole(1, 10_000), metavar="N")]
Url = Annotated[
    str | None,
    typer.Option("--url", envvar="TALLYHOOK_URL", help="Use this server instead of the database.", show_default=False),
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="TALLYHOOK_TOKEN", help="Its bearer token.", show_default=False),
]


@dataclass(frozen=True, slots=True)
class Api:
    """The admin API. Problems in answers are raised as one clear line (TallyhookError)."""

    client: "httpx.AsyncClient"

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON of an answer; parameters that are None are left out."""
        return _read(await self.client.get(path, params=_given(params)))

    async def text(self, path: str, **params: Any) -> str:
        """The text of an answer."""
        answer = await self.client.get(path, params=_given(params))
        if answer.is_error:
            _read(answer)
        return answer.text

    async def post(self, path: str, body: Any = None, **params: Any) -> Any:
        """The JSON of the answer to a POST."""
        return _read(await self.client.post(path, json=body, params=_given(params)))

    async def patch(self, path: str, body: Any) -> Any:
        """The JSON of the answer to a PATCH."""
        return _read(await self.client.patch(path, json=body))

    async def delete(self, path: str) -> None:
        """Remove something."""
        _read(await self.client.delete(path))

    async def list(self, path: str, *, limit: int, **params: Any) -> list[Any]:
        """Up to `limit` items of a list, over its pages."""
        answered: list[Any] = []
        cursor = None
        while len(answered) < limit:
            page = await self.get(path, limit=min(PAGE, limit - len(answered)), cursor=cursor, **params)
            answered += page["data"]
            cursor = page.get("next_cursor")
            if cursor is None:
                break
        return answered

    @asynccontextmanager
    async def stream(self, path: str, **params: Any) -> AsyncIterator["httpx.Response"]:
        """An answer whose bytes are read piece by piece, as they are."""
        headers = {"Accept-Encoding": "identity"}
        async with self.client.stream("GET", path, params=_given(params), headers=headers) as answer:
            if answer.is_error:
                await answer.aread()
                _read(answer)
            yield answer


def command(
    group: typer.Typer, name: str | None = None
) -> Callable[[Callable[Concatenate[Api, P], Awaitable[None]]], Callable[..., None]]:
    """Register an async function as a command: its first parameter is the API, the others are options."""

    def register(work: Callable[Concatenate[Api, P], Awaitable[None]]) -> Callable[..., None]:
        @wraps(work)
        def run(*args: Any, url: str | None, token: str | None, **options: Any) -> None:
            from app.cli.ending import run_once

            async def act() -> None:
                async with reached(url, token) as api:
                    await work(api, *args, **options)

            run_once(act)

        signature = inspect.signature(work, eval_str=True)
        more = [_option("url", Url), _option("token", Token)]
        parameters = [*list(signature.parameters.values())[1:], *more]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        del run.__wrapped__  # typer would read its parameters instead
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        group.command(name)(run)
        return run

    return register


def _option(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


@asynccontextmanager
async def reached(url: str | None, token: str | None) -> AsyncIterator[Api]:
    """The API at this address; without one, that of this process. Raises TallyhookError."""
    import httpx

    if url is None:
        async with _own() as client:
            yield Api(client)
        return
    from app.cli.session import quieten

    quieten()
    if not url.startswith(("http://", "https://")):
        raise TallyhookError(f"--url must be a server's address like https://reports.example.com, not {url!r}")
    if token is None:
        raise TallyhookError("--url needs a token: give --token, or set TALLYHOOK_TOKEN")
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=SECONDS) as client:
            yield Api(client)
    except httpx.TransportError as error:
        raise TallyhookError(f"{url} cannot be reached: {error or type(error).__name__}") from error


@asynccontextmanager
async def _own() -> AsyncIterator["httpx.AsyncClient"]:
    import httpx

    from app.api.http.tokens import Access, Caller
    from app.cli.in_process import InProcess
    from app.cli.session import actor, opened
    from app.main import build_app
    from app.vocabulary import Role

    class OwnAccess(Access):
        """Anyone who can open the database may do everything; histories name them by their account on this machine."""

        @property
        def closed(self) -> bool:
            return False

        def caller(self, token: str) -> Caller:
            return Caller(actor(), Role.ADMIN)

    async with opened() as res:
        transport = InProcess(build_app(res, access=OwnAccess(res.settings)))
        headers = {"Authorization": "Bearer own"}
        async with httpx.AsyncClient(transport=transport, base_url="http://tallyhook", headers=headers) as client:
            yield client


def _given(params: dict[str, Any]) -> dict[str, Any]:
    given = {name.rstrip("_"): value for name, value in params.items() if value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()}


def _read(answer: "httpx.Response") -> Any:
    if answer.is_success:
        return answer.json() if answer.content else None
    try:
        problem = answer.json()
        detail, errors = problem["detail"], problem.get("errors", [])
    except (ValueError, KeyError, TypeError):
        raise TallyhookError(f"{answer.url} answered {answer.status_code}: is it a Tallyhook server?") from None
    if errors:
        detail = "; ".join(f"{one['pointer'].lstrip('/')}: {one['detail']}".lstrip(": ") for one in errors)
    raise TallyhookError(detail)

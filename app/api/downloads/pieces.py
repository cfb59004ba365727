"""The body of an answer whose first piece was read before it began, so that an error could still become a problem."""

from collections.abc import AsyncIterator

from starlette.requests import Request


async def body_of(request: Request, first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The first piece and those that follow; nothing, and none of them is read, if the request is a HEAD."""
    if request.method == "HEAD":
        return
    yield first
    async for piece in rest:
        yield piece

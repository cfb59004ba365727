"""httpx above, aiohttp below: the same API, errors and limits, at a quarter of what httpx's own transport costs.

httpx's pool looks at every idle connection on every request (encode/httpx#3215), and its parser copies every byte of
a file several times. If the environment names a proxy, httpx's own transport is used, because its reading of those
variables is the documented one (docs/decisions/0013).
"""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from urllib.request import getproxies

import aiohttp
import httpcore
import httpx
from yarl import URL

# Read from the socket at once: a piece of a file costs the same whatever its size.
READ_BYTES = 256 * 1024
# As many as httpx's own transport keeps.
KEEP_ALIVE_SECONDS = 5.0
LONGEST_HEAD_LINE = 100 * 1024
# Headers that httpx decides on, and aiohttp would add.
_NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
# The first that fits: aiohttp's errors as httpx's.
_ERRORS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (TimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.ClientError, httpx.ReadError),
    (OSError, httpx.ReadError),
)


def open_http(timeout: httpx.Timeout, context: ssl.SSLContext) -> httpx.AsyncClient:
    """A client for calls to Stripe that trusts the authorities of `context`, and follows no redirect."""
    transport = None if _has_proxy() else AiohttpTransport(context)
    httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = READ_BYTES  # for httpx's own transport: four times its default
    return httpx.AsyncClient(timeout=timeout, follow_redirects=False, verify=context, transport=transport)


def _has_proxy() -> bool:
    """Whether the environment names one: the variables that httpx looks at, in the same way."""
    named = getproxies()
    return any(named.get(scheme) for scheme in ("http", "https", "all"))


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Carries out httpx's requests; no cookies, netrc, redirects, proxies or decompression below httpx."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        seconds = request.extensions.get("timeout", {})
        body = await request.aread()
        if self._session is None:
            self._session = _open_session(self._context)
        with _as_httpx_says_it():
            answer = await self._session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=request.headers.multi_items(),
                data=body or None,
                allow_redirects=False,
                skip_auto_headers=_NOT_ADDED,
                # For name resolution, connecting and the TLS handshake together, as in httpx.
                timeout=aiohttp.ClientTimeout(connect=seconds.get("connect"), sock_read=seconds.get("read")),
            )
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer))

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


def _open_session(context: ssl.SSLContext) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # The callers limit how many calls are under way.
        connector=aiohttp.TCPConnector(ssl=context, limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=READ_BYTES,
        max_line_size=LONGEST_HEAD_LINE,
        max_field_size=LONGEST_HEAD_LINE,
    )


class _Body(httpx.AsyncByteStream):
    """The bytes of an answer, as they come."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx_says_it():
            try:
                async for piece in self._answer.content.iter_chunked(READ_BYTES):
                    yield piece
            except (aiohttp.ClientError, OSError):
                # The bytes before the break are good, and a download resumes after them. aiohttp keeps them.
                if rest := self._answer.content._read_nowait(-1):
                    yield rest
                raise

    async def aclose(self) -> None:
        self._answer.release()


@contextmanager
def _as_httpx_says_it() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        kind = next(httpxs for aiohttps, httpxs in _ERRORS if isinstance(error, aiohttps))
        raise kind(_described(error)) from error


def _described(error: Exception) -> str:
    """What TLS or the system said, without aiohttp's words around it."""
    below = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    return str(below or error)

"""Webhooks: one signed POST per message, as Standard Webhooks 1.0.0 describes it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson

from app.db.models import Message
from app.errors import AddressRefused
from app.resources import Resources
from app.targets import signatures
from app.targets.answers import Answer, no_answer
from app.targets.deliveries import DeliveryClaim, DueMessage
from app.targets.guard import make_client
from app.targets.messages import as_time

# A receiver has this long to answer, in total.
ANSWER_SECONDS = 15.0
MOST_READ = 1024


async def send(res: Resources, claim: DeliveryClaim) -> Answer:
    """POST the message, signed by every secret that is valid now."""
    (message,) = claim.messages
    keys = [key.get_secret_value() for key in res.settings.signing_key]
    if not keys:
        return Answer(error="no_signing_key", text="set TALLYHOOK_SIGNING_KEY: webhook targets wait for it")
    body = body_of(message, public_url=res.settings.public_url)
    versions = [claim.target.secret_version]
    if claim.target.previous_is_valid:
        versions.append(claim.target.secret_version - 1)
    secrets = signatures.active_secrets(keys, claim.target.id, versions)
    headers = signatures.signed_headers(message.id, datetime.now(UTC), body, secrets)
    headers |= {"content-type": "application/json", "user-agent": "Tallyhook"}
    return await post(res, str(claim.target.url), body, headers)


async def post(res: Resources, url: str, body: bytes, headers: dict[str, str]) -> Answer:
    """One POST through the guard (or the proxy); reads at most a kibibyte of the answer."""
    settings = res.settings
    proxy = None if settings.target_proxy is None else settings.target_proxy.get_secret_value()
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            make_client(settings.target_networks, proxy, timeout=ANSWER_SECONDS) as client,
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            return Answer(response.status_code, text=await _beginning(response), retry_after=_retry_after(response))
    except (httpx.HTTPError, httpx.InvalidURL, AddressRefused, TimeoutError) as error:
        return no_answer(error)


def body_of(message: DueMessage, *, public_url: str | None) -> bytes:
    """The JSON of a message; the same bytes on every try."""
    return orjson.dumps(shown(message, public_url=public_url), option=orjson.OPT_SORT_KEYS)


def shown(message: DueMessage | Message, *, public_url: str | None) -> dict[str, Any]:
    """A message as receivers get it; with URLs if TALLYHOOK_PUBLIC_URL is set."""
    data = dict(message.data)
    run, file = data.get("run"), data.get("file")
    if file is not None:
        file = {name: value for name, value in file.items() if name != "path"} | {
            "url": (public_url or "") + file["path"]
        }
        data["file"] = file
    if run is not None and public_url is not None:
        data["link"] = f"{public_url}/runs/{run['id']}"
    return {"id": str(message.id), "type": message.type, "timestamp": as_time(message.created_at), "data": data}


async def _beginning(response: httpx.Response) -> str:
    read = b""
    async for piece in response.aiter_bytes(MOST_READ):
        read += piece
        if len(read) >= MOST_READ:
            break
    return read[:MOST_READ].decode(errors="replace")


def _retry_after(response: httpx.Response) -> float | None:
    given = response.headers.get("retry-after", "")
    return float(given) if given.isdecimal() and len(given) < 8 else None

"""Slack-compatible incoming webhooks (Mattermost, Discord's `/slack`): one post for the collected messages.

The URL is a secret: the target names one of TALLYHOOK_SLACK_URLS.
"""

import orjson

from app.resources import Resources
from app.targets.answers import Answer
from app.targets.deliveries import DeliveryClaim
from app.targets.texts import text_of
from app.targets.webhook import post

# Slack cuts longer texts.
LONGEST_TEXT = 3_000


async def send(res: Resources, claim: DeliveryClaim) -> Answer:
    """Post the collected messages as one text."""
    url = res.settings.slack_urls.get(str(claim.target.url))
    if url is None:
        return Answer(error="no_such_url", text=f"TALLYHOOK_SLACK_URLS has no {claim.target.url!r}")
    words = text_of(claim.messages, public_url=res.settings.public_url)
    # Slack reads these three as markup.
    escaped = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    shown = escaped if len(escaped) <= LONGEST_TEXT else f"{escaped[: LONGEST_TEXT - 1]}…"
    return await post(res, url.get_secret_value(), orjson.dumps({"text": shown}), {"content-type": "application/json"})

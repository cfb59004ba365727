"""A service with targets: signing key, mail server and the receivers' network set."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.resources import Resources, open_resources
from app.simulator import Simulator
from tests import service
from tests.targets.receivers import MailServer, WebReceiver, mail_server, web_receiver

SIGNING_KEY = "a-signing-key-of-more-than-32-characters"


@pytest.fixture
async def smtp() -> AsyncIterator[MailServer]:
    async with mail_server() as server:
        yield server


@pytest.fixture
async def receiver() -> AsyncIterator[WebReceiver]:
    async with web_receiver() as receiver:
        yield receiver


@pytest.fixture
async def res(
    database_url: str, simulator: Simulator, smtp: MailServer, receiver: WebReceiver, tmp_path: Path
) -> AsyncIterator[Resources]:
    settings = service.make_settings(
        database_url,
        simulator,
        TALLYHOOK_SIGNING_KEY=SIGNING_KEY,
        TALLYHOOK_PUBLIC_URL="https://reports.example.com",
        TALLYHOOK_SMTP_URL=smtp.url,
        TALLYHOOK_MAIL_FROM="Tallyhook <reports@example.com>",
        TALLYHOOK_SLACK_URLS=f'{{"finance": "{receiver.url}"}}',
        TALLYHOOK_TARGET_NETWORKS="127.0.0.0/8",
        TALLYHOOK_TARGET_FOLDERS=f"file://{tmp_path}/drop",
    )
    async with open_resources(settings, random=lambda: 0.5) as res:
        yield res

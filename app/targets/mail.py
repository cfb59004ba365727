"""E-mail through the server of TALLYHOOK_SMTP_URL: one plain-text mail for the collected messages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import SplitResult, unquote, urlsplit

import aiosmtplib

from app.resources import Resources
from app.settings.fields import is_this_machine
from app.targets.answers import Answer
from app.targets.deliveries import DeliveryClaim
from app.targets.texts import subject_of, text_of

ANSWER_SECONDS = 30.0
# For all recipients together: the server may take its time with each of them.
MAIL_SECONDS = 60.0
# By then the mail is delivered, and we do not wait for the goodbye.
QUIT_SECONDS = 1.0


async def send(res: Resources, claim: DeliveryClaim) -> Answer:
    """Send one mail to all recipients of the target."""
    settings = res.settings
    if settings.smtp_url is None or settings.mail_from is None:
        return Answer(error="no_mail_server", text="set TALLYHOOK_SMTP_URL and TALLYHOOK_MAIL_FROM")
    mail = EmailMessage()
    mail["From"] = settings.mail_from
    mail["To"] = ", ".join(claim.target.recipients)
    mail["Subject"] = subject_of(claim.messages)
    mail["Date"] = formatdate(localtime=False)
    # The same id on every try, so that a server that accepted the mail before can recognize it.
    mail["Message-ID"] = _message_id(claim, settings.mail_from)
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text_of(claim.messages, public_url=settings.public_url))
    url = urlsplit(settings.smtp_url.get_secret_value())
    try:
        async with asyncio.timeout(MAIL_SECONDS), _connected(url) as server:
            _, said = await server.send_message(mail)
    except aiosmtplib.SMTPResponseException as error:
        return Answer(error=f"smtp_{error.code}", text=error.message)
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        word = "timed_out" if isinstance(error, TimeoutError) else "mail_server_away"
        return Answer(error=word, text=str(error) or type(error).__name__)
    return Answer(200, text=said)


@asynccontextmanager
async def _connected(url: SplitResult) -> AsyncIterator[aiosmtplib.SMTP]:
    """The mail server at this URL, logged in. Its connection is closed without waiting for a server that is silent."""
    server = aiosmtplib.SMTP(
        hostname=url.hostname,
        port=url.port,
        username=unquote(url.username) if url.username else None,
        password=unquote(url.password) if url.password else None,
        use_tls=url.scheme == "smtps",
        # A password leaves this machine under TLS or not at all: anybody on the way can drop the offer of STARTTLS.
        start_tls=True if url.scheme == "smtp" and url.password and not is_this_machine(url.hostname or "") else None,
        timeout=ANSWER_SECONDS,
    )
    try:
        await server.connect()
        yield server
        with suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
            async with asyncio.timeout(QUIT_SECONDS):
                await server.quit()
    finally:
        server.close()


def _message_id(claim: DeliveryClaim, sender: str) -> str:
    domain = sender.rpartition("@")[2].rstrip(">") or "localhost"
    if not claim.messages:
        return make_msgid(domain=domain)
    return f"<{claim.messages[0].id}.{claim.target.id}@{domain}>"

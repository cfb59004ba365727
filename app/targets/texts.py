"""Messages in words, for people: one line each, collected by type and rule."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from app.targets.deliveries import DueMessage
from app.vocabulary import MessageType

# How many messages of one type and rule are shown in full; the others are counted.
MOST_LINES = 10

# Problems first: the subject names three headings.
_HEADINGS = {
    MessageType.ACCOUNT_HELD: "Key refused by Stripe",
    MessageType.REPORT_TYPE_MISSING: "Report type missing",
    MessageType.RULE_LATE: "Late",
    MessageType.RUN_FAILED: "Reports failed",
    MessageType.CHECK_DIFFERS: "Numbers differ",
    MessageType.COLUMNS_CHANGED: "Columns changed",
    MessageType.TARGET_DISABLED: "Target disabled",
    MessageType.RUN_RESTATED: "Reports restated by Stripe",
    MessageType.RUN_CANCELLED: "Reports cancelled",
    MessageType.ACCOUNT_RELEASED: "Key accepted again",
    MessageType.RULE_ON_TIME: "On time again",
    MessageType.MONTH_COMPLETE: "Month complete",
    MessageType.RUN_STORED: "Reports stored",
    MessageType.PING: "Test",
}
_ORDER = {type_: place for place, type_ in enumerate(_HEADINGS)}


def subject_of(messages: Sequence[DueMessage]) -> str:
    """The subject of a mail: what it is about, and how many messages there are."""
    counts = [(heading, len(found)) for heading, found in _by_heading(messages)]
    counted = ", ".join(heading if number == 1 else f"{heading} ({number})" for heading, number in counts[:3])
    return f"Tallyhook: {counted}" + (" and more" if len(counts) > 3 else "")


def text_of(messages: Sequence[DueMessage], *, public_url: str | None) -> str:
    """The whole text: a paragraph per type and rule, with a link per run where TALLYHOOK_PUBLIC_URL is set."""
    return "\n\n".join(
        f"{heading}{'' if len(found) == 1 else f' ({len(found)})'}\n" + "\n".join(_lines(found, public_url))
        for heading, found in _by_heading(messages)
    )


def _by_heading(messages: Sequence[DueMessage]) -> list[tuple[str, list[DueMessage]]]:
    def heading(message: DueMessage) -> str:
        known, rule = _HEADINGS[MessageType(message.type)], _rule_name(message)
        return known if rule is None else f"{known}: {rule}"

    ordered = sorted(messages, key=lambda one: (_ORDER[MessageType(one.type)], heading(one), one.id))
    return [(found, list(group)) for found, group in groupby(ordered, key=heading)]


def _lines(messages: Sequence[DueMessage], public_url: str | None) -> list[str]:
    lines = [f"- {line_of(message)}{_link(message, public_url)}" for message in messages[:MOST_LINES]]
    more = len(messages) - MOST_LINES
    return lines if more <= 0 else [*lines, f"- and {more} more"]


def line_of(message: DueMessage) -> str:
    """One message in one line."""
    data = message.data
    run, file = data.get("run"), data.get("file")
    if run is None:
        return str(data.get("text") or message.subject or message.type)
    about = _window(run)
    if run["connected_account"] is not None:
        about += f" of {run['connected_account']}"
    if message.type == MessageType.RUN_FAILED and run["error"] is not None:
        return f"{about}: {run['error']['kind']}: {run['error']['message']}"
    if message.type == MessageType.RUN_RESTATED:
        return f"{about}: revision {run['revision']} differs from the previous one"
    if file is not None:
        return f"{about}: {file['filename']}, {file['size']:,} bytes"
    return about


def _window(run: dict[str, Any]) -> str:
    window = run["window"]
    if window is None:
        return str(run["report_type"])
    if window["first"] == window["last"]:
        return str(window["first"])
    return f"{window['first']} to {window['last']}"


def _rule_name(message: DueMessage) -> str | None:
    name = (message.data.get("run") or {}).get("rule_name") or message.data.get("rule_name")
    return None if name is None else str(name)


def _link(message: DueMessage, public_url: str | None) -> str:
    run = message.data.get("run")
    return "" if run is None or public_url is None else f" {public_url}/runs/{run['id']}"

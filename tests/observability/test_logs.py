"""Logs: one line per record, from every library too, and never a secret in it."""

import io
import json
import logging
import sys
import uuid
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from app.observability.logs import configure_logs, redact
from app.vocabulary import RunState

CANARY = 'C4n"ary\\7 é/q'
STRIPE_KEY = "sk_live_51xyz"
pytestmark = pytest.mark.usefixtures("logging_as_it_was")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_step_is_one_line_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    run_id = uuid.uuid4()

    structlog.get_logger("app.runs").info(
        "run.stored", run_id=run_id, bytes=7, state=RunState.STORED, took=0.5, by=None
    )

    (line,) = lines_of(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "run.stored",
        "level": "info",
        "logger": "app.runs",
        "run_id": str(run_id),
        "bytes": 7,
        "state": "stored",
        "took": 0.5,
        "by": None,
    }


def test_what_is_bound_to_the_task_is_in_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(json=True)

    with structlog.contextvars.bound_contextvars(job="download_file"):
        structlog.get_logger().info("run.stored")
        logging.getLogger("elsewhere").warning("careful")

    assert [line["job"] for line in lines_of(capsys)] == ["download_file", "download_file"]


def test_a_terminal_gets_lines_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    configure_logs(secrets=[CANARY])

    structlog.get_logger().info("run.stored", run_id=1, key=CANARY)

    (line,) = terminal.getvalue().splitlines()
    assert "run.stored" in line
    assert "[redacted]" in line
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(line)


@pytest.mark.parametrize("name", ["uvicorn.error", "sqlalchemy.pool", "alembic.runtime.migration", "anything"])
def test_records_of_the_standard_library_are_lines_of_the_same_kind(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    configure_logs(json=True)

    logging.getLogger(name).warning("%s of %d", "one", 2)

    (line,) = lines_of(capsys)
    assert (line["event"], line["logger"], line["level"]) == ("one of 2", name, "warning")


def test_uvicorn_does_not_write_beside_us(capsys: pytest.CaptureFixture[str]) -> None:
    own = logging.StreamHandler()
    logging.getLogger("uvicorn.access").addHandler(own)
    logging.getLogger("uvicorn.access").propagate = False

    configure_logs(json=True)
    logging.getLogger("uvicorn.access").info("GET /health/live")

    assert [line["event"] for line in lines_of(capsys)] == ["GET /health/live"]


def test_configuring_again_does_not_double_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(json=True)
    configure_logs(json=True)

    structlog.get_logger().info("once")
    logging.getLogger("elsewhere").info("once")

    assert len(lines_of(capsys)) == 2


def test_talkative_libraries_are_heard_only_when_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(json=True)

    logging.getLogger("httpx").info("HTTP Request: GET …")
    logging.getLogger("stripe").info("Request to Stripe api")
    logging.getLogger("httpx").warning("odd")
    structlog.get_logger().debug("detail")

    assert [line["event"] for line in lines_of(capsys)] == ["odd"]


def test_a_record_that_cannot_be_written_is_not_shown_raw(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(json=True, secrets=[CANARY])

    logging.getLogger("elsewhere").warning("%d", CANARY)

    assert capsys.readouterr().err == ""


class Holder:
    def __str__(self) -> str:
        return f"holder of {CANARY}"


class Odd(Exception):
    """An error whose text is a secret."""


def fail_with_secrets() -> None:
    try:
        raise Odd("inner", CANARY)
    except Odd as error:
        error.add_note("note " + CANARY)
        raise RuntimeError("outer", CANARY, STRIPE_KEY) from error


@pytest.mark.parametrize("as_json", [True, False])
def test_no_field_and_no_traceback_shows_a_configured_secret(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    configure_logs(json=as_json, secrets=["", CANARY])
    log = structlog.get_logger()

    log.info(CANARY, text=f"a{CANARY}b", raw=CANARY.encode(), held=Holder(), kept=SecretStr(CANARY))
    log.info("deep", tree={"a": [{CANARY: (CANARY, {CANARY})}]}, literal=repr(CANARY), as_json=json.dumps(CANARY))
    log.info("url", url="https://h/?key=C4n%22ary%5C7%20%C3%A9%2Fq", held=[Holder()])
    log.bind(**{CANARY: 1, "bound": CANARY}).info("bound")
    logging.getLogger("elsewhere").error("foreign %s", CANARY, extra={"other": CANARY})
    try:
        fail_with_secrets()
    except RuntimeError:
        log.exception("failed")
        logging.getLogger("elsewhere").exception("failed")

    written = capsys.readouterr().err
    assert "C4n" not in written
    assert "51xyz" not in written
    assert written.count("Traceback") == 4
    assert written.count("[redacted]") >= 20


def test_local_variables_are_not_in_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(json=False)
    local = "hidden" + "-in-a-local"

    try:
        local.index("x")
    except ValueError:
        structlog.get_logger().exception("failed")

    assert "hidden-in-a-local" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["authorization", "Authorization", "api_key", "password"])
def test_fields_that_are_secret_by_name_are_not_shown_whatever_they_hold(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    configure_logs(json=True)

    structlog.get_logger().info("request", headers={name: "short"}, **{name: "short"})

    (line,) = lines_of(capsys)
    assert (line[name], line["headers"]) == ("[redacted]", {name: "[redacted]"})


def test_nothing_is_left_of_two_secrets_one_inside_the_other() -> None:
    configure_logs(json=True, secrets=["abcdefgh", "abcdefghij"])

    assert redact("abcdefghij abcdefgh") == "[redacted] [redacted]"


def test_a_password_of_a_letter_is_not_taken_out_of_every_word(logging_as_it_was: None) -> None:
    configure_logs(json=True, secrets=["a", "swordfish"])

    assert redact("a rate of swordfish at postgresql://user:a@host/db") == (
        "a rate of [redacted] at postgresql://user:[redacted]@host/db"
    )

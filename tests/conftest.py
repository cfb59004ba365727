"""Fixtures for all tests: one PostgreSQL for the whole run, and a separate database for every test that asks."""

import logging
import os
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
import structlog
from hypothesis import HealthCheck, settings

from app.db.migrate import migrate
from app.health import gauges, judge, judgements, process
from app.observability.logs import configure_logs
from app.resources import Resources, open_resources
from app.simulator import Simulator, serve
from tests import service
from tests.database import FOLDER_VARIABLE, PostgresServer, fresh_database, run_folder, running_server

# How long an example takes says how busy the machine is, not how fast we are; a test's examples share its fixtures.
SUPPRESSED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("tests", deadline=None, suppress_health_check=SUPPRESSED)
settings.load_profile("tests")

# A test that takes half a minute on two free cores takes five beside another suite and a few other processes.
SLOW_TIMEOUT_SECONDS = 900


def pytest_configure(config: pytest.Config) -> None:
    """Make the run's folder, once: the workers of pytest-xdist inherit the environment."""
    show_plain_tracebacks()
    # Under `nohup`, processes that tests start would ignore a closed terminal, as they should there.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if hasattr(config, "workerinput"):
        return
    run = ExitStack()
    config.add_cleanup(run.close)
    os.environ[FOLDER_VARIABLE] = str(run.enter_context(run_folder()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Wait longer for slow tests before they count as hanging."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_SECONDS))


def show_plain_tracebacks() -> None:
    """By default structlog draws each frame with its variables: 3 s of processor time for a logged exception."""
    processors = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*processors[:-1], plain])


LOGGERS = ["", "uvicorn", "uvicorn.error", "uvicorn.access", "httpx", "httpcore", "stripe", "sqlalchemy", "psycopg"]
LOGGERS += ["sqlalchemy.engine", "sqlalchemy.pool", "asyncio"]


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """For tests that configure logging, which is per process: restores it afterwards."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    raises = logging.raiseExceptions
    yield
    configure_logs(json=True, secrets=[])
    structlog.reset_defaults()
    show_plain_tracebacks()
    logging.raiseExceptions = raises
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def certificates_are_loaded_once() -> Iterator[None]:
    """Loading the authorities takes 20 ms, and each `Resources` does it twice; no test changes a context."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ssl, "create_default_context", cache(ssl.create_default_context))
        yield


@pytest.fixture(scope="session", autouse=True)
def every_judgement_is_new() -> Iterator[None]:
    """Tests change the world and ask again; on a busy machine a judgement takes long enough to be kept."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(judgements, "KEPT_SECONDS", 0.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def health_waits_for_a_busy_machine() -> Iterator[None]:
    """Health gives up on a slow database after seconds; what tests ask about must be judged even on a busy machine."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (judge, gauges):
            patched.setattr(module, "STATEMENT_SECONDS", 60)
        patched.setattr(judge, "ALL_SECONDS", 120.0)
        patched.setattr(process, "ANSWER_SECONDS", 60.0)
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of this run, shared by all workers."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def template_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a migrated database to copy, once per worker; nobody may be connected to it."""
    with fresh_database(postgres_server) as name:
        migrate(postgres_server.url(name))
        yield name


@pytest.fixture
def database_url(postgres_server: PostgresServer, template_database: str) -> Iterator[str]:
    """The URL (`postgresql://…`) of a fresh database with the schema at head."""
    with fresh_database(postgres_server, template=template_database) as name:
        yield postgres_server.url(name)


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh database without any table."""
    with fresh_database(postgres_server) as name:
        yield postgres_server.url(name)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Stripe, over real HTTP; the data of the usual report type ends at 2026-03-01."""
    simulator = Simulator()
    async with serve(simulator):
        service.unpublished(simulator)
        yield simulator


@pytest.fixture
async def res(database_url: str, simulator: Simulator) -> AsyncIterator[Resources]:
    """The service's resources, without a worker: tests take the steps themselves."""
    async with open_resources(service.make_settings(database_url, simulator)) as res:
        yield res

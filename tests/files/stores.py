"""Object stores for tests: a folder, and an S3-speaking server on loopback."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import obstore
from obstore.store import from_url

from tests.ports import held_port
from tests.until import PATIENCE_SECONDS

BUCKET = "reports"


@dataclass(frozen=True, slots=True)
class Store:
    """Where files go, as the setting names it, and what a stranger sees there."""

    url: str
    endpoint: str | None = None

    def objects(self) -> dict[str, bytes]:
        """Everything below the URL: name and bytes."""
        if self.url.startswith("file://"):
            folder = Path(self.url.removeprefix("file://"))
            folder.mkdir(parents=True, exist_ok=True)
            prefix, store = "", from_url(folder.as_uri())
        else:
            prefix, store = f"{self.url.removeprefix(f's3://{BUCKET}/')}/", from_url(f"s3://{BUCKET}")
        found = [item["path"] for page in obstore.list(store, prefix=prefix) for item in page]
        return {path.removeprefix(prefix): bytes(obstore.get(store, path).bytes()) for path in found}

    def unfinished(self) -> int:
        """How many uploads were started and not finished."""
        if self.endpoint is None:
            folder = Path(self.url.removeprefix("file://"))
            return sum("#" in path.name for path in folder.rglob("*"))
        return httpx.get(f"{self.endpoint}/{BUCKET}?uploads", timeout=PATIENCE_SECONDS).text.count("<UploadId>")


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of moto's server, a process of its own, with the bucket made."""
    with held_port() as port:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(process, url)
            httpx.put(f"{url}/{BUCKET}", timeout=PATIENCE_SECONDS).raise_for_status()
            yield url
        finally:
            process.terminate()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with suppress(httpx.TransportError):
            httpx.get(url)
            return
        assert process.poll() is None, "the S3 server ended"
        assert time.monotonic() < deadline, "the S3 server does not start"
        time.sleep(0.1)


def environ_of(endpoint: str) -> dict[str, str]:
    """How an operator would tell the service where S3 is."""
    return {
        "AWS_ENDPOINT": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "a-key",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "NO_PROXY": os.environ.get("NO_PROXY", "127.0.0.1"),
    }

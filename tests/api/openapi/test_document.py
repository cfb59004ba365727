"""The OpenAPI document and the service say the same: Schemathesis calls everything, with valid and invalid requests."""

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.api.http import tokens
from app.resources import Resources
from tests.api.conftest import listening
from tests.service import ADMIN_TOKEN

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.fuzz
@pytest.mark.timeout(600)  # 1300 requests: 25 s of processor time, however many share it
async def test_every_answer_is_as_described_and_none_is_an_error_of_ours(
    res: Resources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tokens, "WRONG_TOKEN_SECONDS", 0)
    # So that it is ready without a worker.
    async with listening(replace(res, works_queue=False)) as port:
        tool = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run",
            f"http://127.0.0.1:{port}/openapi.json", "--header", f"Authorization: Bearer {ADMIN_TOKEN}",
            "--checks", "all", "--phases", "examples,coverage,fuzzing", "--no-color",
            cwd=tmp_path, env={**os.environ, "PYTHONWARNINGS": "default"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await tool.communicate()

    assert tool.returncode == 0, said.decode()

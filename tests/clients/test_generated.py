"""The two commands of docs/howto/clients.md make typed clients from our OpenAPI document, and a call type-checks."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import httpx
import pytest

from app.resources import Resources
from tests.api.conftest import client_of

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "clients.md"


@pytest.fixture
async def document(res: Resources, tmp_path: Path) -> Path:
    async with client_of(res) as api:
        answer: httpx.Response = await api.get("/openapi.json")
    path = tmp_path / "openapi.json"
    path.write_text(answer.text)
    return path


async def run(*command: str, folder: Path) -> tuple[int, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    tool = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env={**os.environ, "PATH": path},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await tool.communicate()
    return tool.returncode or 0, said.decode()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def command_with(word: str, document: Path) -> list[str]:
    """The command of the page, for this document."""
    (line,) = [line for block in blocks("sh") for line in block.splitlines() if word in line]
    return line.replace("https://reports.example.com/openapi.json", str(document)).replace("--url", "--path").split()


async def test_a_python_client_is_made_and_its_call_type_checks(document: Path, tmp_path: Path) -> None:
    generator = os.environ.get("CLIENT_GENERATOR", "")
    if not generator:
        pytest.skip("openapi-python-client is not installed: `make clients` installs it")
    command = command_with("openapi-python-client generate", document)
    assert command[:3] == ["pipx", "run", "openapi-python-client"]
    code, said = await run(generator, *command[3:], folder=tmp_path)
    assert code == 0, said
    # Only what is not JSON may be left out of a typed client.
    warned = re.findall(r"WARNING parsing (\S+ \S+)", said)
    assert warned == ["GET /v1/rules.yaml", "GET /v1/packs/{month}.zip"], said

    (tmp_path / "call.py").write_text(blocks("python")[0])
    wrong = blocks("python")[0].replace('rule="daily-activity"', "rule=7")
    (tmp_path / "wrong.py").write_text(wrong)
    package = tmp_path / "tallyhook-client"
    mypy = ("env", f"MYPYPATH={package}", sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent")
    right, said = await run(*mypy, "call.py", folder=tmp_path)
    refused, told = await run(*mypy, "wrong.py", folder=tmp_path)

    assert right == 0, said
    assert (refused, "arg-type" in told) == (1, True), told


async def test_a_typescript_client_is_made_and_its_call_type_checks(document: Path, tmp_path: Path) -> None:
    if shutil.which("npx") is None:
        pytest.skip("npx is not installed: Node.js brings it")
    code, said = await run(*command_with("openapi-typescript", document), folder=tmp_path)
    if re.search("ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|network", said):
        pytest.skip("npm's registry cannot be reached")
    assert code == 0, said
    code, said = await run("npm", "install", "--silent", "openapi-fetch", "typescript", folder=tmp_path)
    assert code == 0, said

    call = blocks("ts")[0]
    (tmp_path / "call.ts").write_text(call)
    (tmp_path / "wrong.ts").write_text(call.replace('rule: "daily-activity"', "rule: 7"))
    tsc = ("npx", "tsc", "--noEmit", "--strict", "--target", "es2022", "--module", "esnext",
           "--moduleResolution", "bundler", "--skipLibCheck")  # fmt: skip
    right, said = await run(*tsc, "call.ts", folder=tmp_path)
    refused, told = await run(*tsc, "wrong.ts", folder=tmp_path)

    assert right == 0, said
    assert refused != 0
    assert "is not assignable to type 'string" in told, told

"""The answer with a file that was made for it alone."""

import shutil
from pathlib import Path

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send


class SentOnce(FileResponse):
    """A file alone in a folder, which is removed once it is sent or sending it is cut, as at a stop."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            shutil.rmtree(Path(self.path).parent, ignore_errors=True)

"""Refuse requests that come from other pages or name files that were not uploaded.

Any page in the same browser can send requests to this machine, and Gradio opens any path in a
request. Requests from other origins, and paths outside the folder of uploads, are therefore refused
before Gradio receives them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from netinv_lightning.errors import InputError
from netinv_lightning.runs.outside_files import open_file, parse_json

MOST_UPLOADED = 20 * 2**20
"""Largest size of an uploaded picture in bytes."""
MOST_SENT = 2**20
"""Largest size of any other request in bytes; it contains values of sliders."""
NOT_UPLOADED = "the request names a file that was not uploaded"
READING = ("GET", "HEAD", "OPTIONS")


class OwnPageOnly:
    """ASGI middleware that refuses requests of other pages and paths outside the uploads.

    Args:
        app: The application that receives the accepted requests.
        uploads: The folder of uploads.
    """

    def __init__(self, app: ASGIApp, uploads: Path) -> None:
        self.app, self.uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers, method = Headers(scope=scope), scope.get("method", "POST")
        if _is_foreign(headers, method):
            await PlainTextResponse("requests from other pages are refused", 403)(
                scope, receive, send
            )
        elif method in READING:
            await self.app(scope, receive, send)
        elif scope["path"].rstrip("/").endswith("/upload"):
            await self._upload(headers, scope, receive, send)
        else:
            await self._checked(scope, receive, send)

    async def _upload(self, headers: Headers, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward an upload until it is too large; its declared size is not trusted."""
        most, passed = MOST_UPLOADED + MOST_SENT, 0  # the form adds bytes to its file
        if int(headers.get("content-length") or 0) > most:
            # A browser reads the answer only after it has sent everything.
            while passed < 8 * most and (message := await receive()).get("more_body", False):
                passed += len(message["body"])
            await _too_large(scope, receive, send)
            return

        async def counted() -> Message:
            nonlocal passed
            message = await receive()
            passed += len(message.get("body", b""))
            if passed > most:
                return {"type": "http.disconnect"}
            return message

        await self.app(scope, counted, send)

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the whole request; forward it if every path in it is an upload."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MOST_SENT:
                await _too_large(scope, receive, send)
                return
        try:
            for path in _paths(
                parse_json(body.decode("utf-8", "replace"), "request") if body else None
            ):
                check_upload(path, self.uploads)
        except InputError as error:
            await PlainTextResponse(str(error), 403)(scope, receive, send)
            return
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self.app(scope, again, send)


def check_upload(path: Any, uploads: Path) -> Path:
    """Return the path of an uploaded file.

    Raises:
        InputError: if it is not a regular file in the folder of uploads.
    """
    if not isinstance(path, str) or "\0" in path or not Path(path).is_absolute():
        raise InputError(NOT_UPLOADED)
    try:
        open_file(Path(path), uploads).close()
    except (InputError, OSError) as error:
        raise InputError(NOT_UPLOADED) from error
    return Path(path)


def _is_foreign(headers: Headers, method: str) -> bool:
    """Whether another page sent the request; pages cannot forge these headers."""
    origin, host = headers.get("origin"), headers.get("host")
    if origin is not None and urlsplit(origin).netloc != host:  # also `null`
        return True
    return method not in READING and headers.get("sec-fetch-site", "same-origin") not in (
        "same-origin",
        "none",
    )


def _paths(node: Any) -> Iterator[Any]:
    """Yield every value of a key `path`, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "path" and value is not None:
                yield value
            yield from _paths(value)
    elif isinstance(node, list):
        for value in node:
            yield from _paths(value)


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(f"too large; the limit is {MOST_UPLOADED // 2**20} MB", 413)(
        scope, receive, send
    )

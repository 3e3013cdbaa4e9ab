"""What every request passes: it is counted, logged without its content, and refused if it is not allowed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import re
import time
from collections.abc import Collection
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cardioner.errors import UsageError, without_message
from cardioner.server.limits import Limits
from cardioner.server.metrics import Metrics
from cardioner.server.page_files import is_page
from cardioner.server.problems import CLIENT_GONE, RefusedError, answer

log = logging.getLogger("cardioner.server")

OPEN_PATHS = ("/health", "/ready")
"""What is answered without a token, for whoever watches the process: it tells nothing of notes or models. So do the
files of the page, which asks for the token itself."""
STREAM = "/predict/stream"
"""The path whose body is as long as the client likes."""

FAILED = "the server failed; its log says where"
"""What a client is told of an error that nobody expected."""

_SHORTEST_TOKEN = 16
_PORT = re.compile(r":\d*$")


def read_token(path: Path) -> bytes:
    """The digest of the token in a file, white space at its ends left out.

    Raises:
        UsageError: If the file cannot be read, or the token is short, or not printable ASCII.
    """
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"{path}: the token cannot be read: {error.strerror}") from error
    if len(token) < _SHORTEST_TOKEN or not all(0x20 < byte < 0x7F for byte in token):
        raise UsageError(
            f"{path}: expected a token of {_SHORTEST_TOKEN} or more printable ASCII characters without spaces: make "
            "one with `openssl rand -hex 32`"
        )
    return hashlib.sha256(token).digest()


def log_unexpected(error: Exception) -> None:
    """Log an error by its class and place."""
    log.error("unexpected %s; its message is not shown, because it may quote a note", without_message(error))


class Observed:
    """Counts and logs every request, and answers errors that nothing else did.

    The log has the method, the path if the server knows it, the status and the time: never a query or a body.

    Args:
        app: The rest of the application.
        paths: The paths that may be named.
        metrics: Where to count.
    """

    def __init__(self, app: ASGIApp, *, paths: Collection[str], metrics: Metrics) -> None:
        self._app = app
        self._paths = paths
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and record what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).setdefault("cache-control", "no-store")  # notes stay out of caches
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - the framework would log its message
            log_unexpected(error)
            if status:  # the client has half of a response: only a broken connection tells
                raise _BrokenOffError from None
            await answer(500, FAILED)(scope, receive, watch)
        finally:
            self._record(scope, status, time.perf_counter() - began)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in self._paths else "other"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(path, str(status)).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        log.info("%s %s %d in %.0f ms", method, path, status, 1000 * seconds)


def _given_token(authorization: str) -> bytes:
    """The token in a header: a bearer token, or the password of HTTP basic authentication, which Label Studio sends."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return given.strip().encode()
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(given.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return b""


def _is_foreign(scope: Scope, headers: Headers) -> bool:
    """Whether a page of another site has a browser change something: with a token, it would lack that."""
    origin = headers.get("origin")
    if scope["method"] in {"GET", "HEAD"} or origin is None:
        return False
    return origin.partition("://")[2].lower() != headers.get("host", "").lower()


class _BrokenOffError(Exception):
    """A response that was begun cannot be finished."""


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Guarded:
    """Lets in who has the token, and bodies that are short enough and keep coming.

    Args:
        app: The rest of the application.
        limits: Of the body.
        token: The SHA-256 digest of the token that is asked for; `None` to ask for none.
        hosts: Names by which the server may be addressed, in lower case; `None` for any. A page of another site can
            have a browser send requests to this machine under a name of its own ("DNS rebinding").
    """

    def __init__(
        self, app: ASGIApp, *, limits: Limits, token: bytes | None, hosts: Collection[str] | None = None
    ) -> None:
        self._app = app
        self._limits = limits
        self._token = token
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if self._hosts is not None and _PORT.sub("", headers.get("host", "").lower()) not in self._hosts:
            refusal = answer(421, f"this server is addressed as {' or '.join(self._hosts)}")
            await refusal(scope, receive, send)
            return
        if self._token is None and _is_foreign(scope, headers):
            await answer(403, "a page of another site may not ask for this")(scope, receive, send)
            return
        is_open = scope["path"] in OPEN_PATHS or is_page(scope["path"])
        if not is_open and not self._may_enter(headers):
            refusal = answer(401, "expected the header `Authorization: Bearer TOKEN`", {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
            return
        limited = scope["path"] != STREAM
        length = headers.get("content-length", "")
        if limited and length.isdecimal() and int(length[:20]) > self._limits.body_bytes:
            await self._too_large()(scope, receive, send)
            return
        await self._app(scope, self._bounded(receive, limited=limited), send)

    def _may_enter(self, headers: Headers) -> bool:
        if self._token is None:
            return True
        digest = hashlib.sha256(_given_token(headers.get("authorization", ""))).digest()
        return hmac.compare_digest(digest, self._token)

    def _too_large(self) -> JSONResponse:
        return answer(413, f"expected a body of at most {self._limits.body_bytes} bytes")

    def _bounded(self, receive: Receive, *, limited: bool) -> Receive:
        """Receives the body piece by piece, until there is too much of it or the next piece does not come."""
        received, more = 0, True

        async def bounded() -> Message:
            nonlocal received, more
            if not more:  # a client that waits for its answer may take its time
                return await receive()
            seconds = self._limits.idle_seconds
            try:
                message = await asyncio.wait_for(receive(), seconds)
            except asyncio.TimeoutError:
                raise RefusedError(408, f"no more of the body came for {seconds:g} seconds") from None
            more = message.get("more_body", False)
            received += len(message.get("body", b""))
            if limited and received > self._limits.body_bytes:
                raise RefusedError(413, f"expected a body of at most {self._limits.body_bytes} bytes")
            return message

        return bounded

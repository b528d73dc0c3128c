"""A small HTTP/1.1 client for streams, which says when each piece arrived. It talks to one server and no other.

Nothing stands between the socket and the clock: no pool that queues, no proxy, no redirect, no compression.
Source: RFC 9112 (HTTP/1.1).
"""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tierwise.core.errors import BadField, TierwiseError

LINE = 1 << 20  # bytes of the longest header or chunk line
SHOWN = 300  # characters of a server's own message that are passed on
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_Begun = tuple[Streams, int, dict[str, str], bool]  # status, headers, whether the connection may be used again
_LOST = (OSError, EOFError, ValueError, asyncio.LimitOverrunError, http.client.HTTPException)


class ServerError(TierwiseError):
    """The server is not there, does not answer, or answers what it should not. ``status`` is HTTP's, 0 for none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class HttpAnswer:
    """An HTTP answer whose body is still coming: ``async for seconds, data in answer.body``."""

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[tuple[float, bytes]]

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([data async for _, data in self.body])


class HttpClient:
    """Requests to one server, over connections that are kept and used again.

    Args:
        url: ``http://host:port`` or https; a path in front is kept, a trailing ``/v1`` is not.
        key: sent as a bearer token, where there is one.
        timeout: seconds without a byte after which a request is given up.
    """

    def __init__(self, url: str, key: str = "", timeout: float = 600.0) -> None:
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        plain = url.strip().isascii() and url.strip().isprintable() and " " not in url.strip()
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or not plain:
            raise BadField("--url", "server", url, "an address such as http://127.0.0.1:8000")
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.host, self.port = parts.hostname, port or (443 if self.tls else 80)
        self.prefix = parts.path.rstrip("/").removesuffix("/v1")
        self.name = f"{parts.scheme}://{parts.netloc}{self.prefix}"
        self.timeout = timeout
        self._head = f"Host: {parts.netloc}\r\nAccept-Encoding: identity\r\nUser-Agent: tierwise\r\n"
        if key:
            self._head += f"Authorization: Bearer {key}\r\n"
        self._idle: list[Streams] = []

    @asynccontextmanager
    async def send(self, method: str, path: str, content: object = None) -> AsyncIterator[HttpAnswer]:
        """One request; ``content`` goes as JSON.

        Raises:
            ServerError: no connection, silence for longer than the timeout, no HTTP.
        """
        text = b"" if content is None else json.dumps(content).encode()
        head = f"{method} {self.prefix}{path} HTTP/1.1\r\n{self._head}Content-Length: {len(text)}\r\n"
        if content is not None:
            head += "Content-Type: application/json\r\n"
        try:
            streams, status, headers, keep = await self._begin(head.encode("latin-1") + b"\r\n" + text)
        except _LOST as error:
            raise self._lost(error) from None
        whole: list[bool] = []
        try:
            yield HttpAnswer(status, headers, self._body(streams[0], status, headers, whole))
        finally:
            if whole and keep:
                self._idle.append(streams)
            else:
                streams[1].close()

    async def json(self, method: str, path: str, content: object = None) -> Any:
        """The JSON of an answer.

        Raises:
            ServerError: a status of 400 or above (``status`` has it), or no JSON.
        """
        async with self.send(method, path, content) as answer:
            data = await answer.read()
            refuse(self.name + path, answer.status, answer.headers, data)
        try:
            return json.loads(data)
        except ValueError:
            raise ServerError(f"{self.name}{path}: the answer is not JSON: it begins {data[:60]!r}") from None

    def close(self) -> None:
        """Gives the idle connections back."""
        while self._idle:
            self._idle.pop()[1].close()

    async def _begin(self, request: bytes) -> _Begun:
        """Sends on an idle connection, or on a new one where there is none or the server has closed it meanwhile."""
        while self._idle:
            streams = self._idle.pop()
            if streams[0].at_eof():
                streams[1].close()
                continue
            try:
                return await self._exchange(streams, request)
            except (ConnectionError, asyncio.IncompleteReadError):
                continue
        async with asyncio.timeout(self.timeout):
            streams = await asyncio.open_connection(self.host, self.port, ssl=self.tls, limit=LINE)
        return await self._exchange(streams, request)

    async def _exchange(self, streams: Streams, request: bytes) -> _Begun:
        reader, writer = streams
        try:
            writer.write(request)
            async with asyncio.timeout(self.timeout):
                await writer.drain()
                while True:
                    version, status = _status(await reader.readuntil(b"\n"))
                    headers = await _headers(reader)
                    if status >= 200:  # 1xx only announce
                        keep = version != "http/1.0" and headers.get("connection", "").lower() != "close"
                        return streams, status, headers, keep
        except BaseException:
            writer.close()
            raise

    async def _body(
        self, reader: asyncio.StreamReader, status: int, headers: Mapping[str, str], whole: list[bool]
    ) -> AsyncIterator[tuple[float, bytes]]:
        """Pieces of the body with their time (``time.monotonic``); ``whole`` is filled at its proper end."""
        length = headers.get("content-length")
        try:
            if headers.get("transfer-encoding", "").lower().endswith("chunked"):
                while data := await self._in_time(_chunk(reader)):
                    yield time.monotonic(), data
                whole.append(True)
            elif length is not None or status in (204, 304):
                left = int(length or 0)
                while left:
                    data = await self._in_time(reader.read(min(left, LINE)))
                    if not data:
                        raise asyncio.IncompleteReadError(b"", left)
                    left -= len(data)
                    yield time.monotonic(), data
                whole.append(True)
            else:
                while data := await self._in_time(reader.read(LINE)):
                    yield time.monotonic(), data
        except _LOST as error:
            raise self._lost(error) from None

    async def _in_time(self, reading: Awaitable[bytes]) -> bytes:
        async with asyncio.timeout(self.timeout):
            return await reading

    def _lost(self, error: Exception) -> ServerError:
        if isinstance(error, TimeoutError):
            return ServerError(f"{self.name}: nothing came for {self.timeout:g} s (--timeout waits longer)")
        if isinstance(error, ConnectionRefusedError):
            return ServerError(f"{self.name}: connection refused: no server listens there")
        if isinstance(error, EOFError | ConnectionError):
            return ServerError(f"{self.name}: the server closed the connection before the answer ended")
        if isinstance(error, ssl.SSLError):
            return ServerError(f"{self.name}: no TLS connection: {error.reason or error}")
        if isinstance(error, OSError):
            return ServerError(f"{self.name}: no connection: {error.strerror or error}")
        return ServerError(f"{self.name}: the answer is not HTTP: {error}")


def refuse(where: str, status: int, headers: Mapping[str, str], data: bytes) -> None:
    """Raises ServerError with the server's own words where the status is not one of success."""
    if status < 300:
        return
    if status < 400:
        raise ServerError(f"{where}: sends on to {headers.get('location', 'elsewhere')}; give that address", status)
    try:
        said = json.loads(data)
    except ValueError:
        said = data.decode("utf-8", "replace")
    while isinstance(said, dict):
        said = next((said[k] for k in ("error", "message", "detail") if k in said), json.dumps(said))
    words = " ".join((said if isinstance(said, str) else json.dumps(said)).split())
    reason = http.client.responses.get(status, "")
    raise ServerError(f"{where}: HTTP {status} {reason}".rstrip() + (f": {words[:SHOWN]}" if words else ""), status)


def _status(line: bytes) -> tuple[str, int]:
    version, _, rest = line.decode("latin-1").strip().partition(" ")
    if not version.upper().startswith("HTTP/1") or not rest[:3].isdigit():
        raise ValueError(f"it begins {line[:60]!r}")
    return version.lower(), int(rest[:3])


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    """Header lines until the empty one, names in lower case."""
    lines = [await reader.readuntil(b"\n")]
    while lines[-1] not in (b"\r\n", b"\n"):
        lines.append(await reader.readuntil(b"\n"))
    found = http.client.parse_headers(io.BytesIO(b"".join(lines)))
    return {k.lower(): v.strip() for k, v in found.items()}


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    """The next chunk of a chunked body; empty for the last, whose trailers are read away."""
    size = int((await reader.readuntil(b"\n")).split(b";")[0], 16)
    if not size:
        await _headers(reader)
        return b""
    data = await reader.readexactly(size)
    await reader.readuntil(b"\n")
    return data

"""The process: its socket, its certificate, and the signals that end it or have it reload."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from cardioner.errors import UsageError
from cardioner.server.service import Service

log = logging.getLogger("cardioner.server")

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""The names by which a browser on this machine may address the server."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen.

    Attributes:
        host: An address or a name.
        port: Of TCP; 0 for any that is free.
        certificate: A PEM file with the certificates of TLS; `None` for plain HTTP.
        key: A PEM file with their private key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def check(self, *, token: bool) -> None:
        """Refuse what would let others in, or cannot work.

        Raises:
            UsageError: If other machines could connect without a token, or there is only half of a TLS certificate.
        """
        if not self.is_loopback and not token:
            raise UsageError(
                f"{self.host} can be reached by other machines: give --token-file FILE, or leave --host out to serve "
                "this machine alone"
            )
        if (self.certificate is None) != (self.key is None):
            raise UsageError("TLS needs both --tls-certificate FILE and --tls-key FILE")
        for path in (self.certificate, self.key):
            if path is not None and not path.is_file():
                raise UsageError(f"{path}: expected a PEM file; there is none")


def run(app: FastAPI, service: Service, address: Address) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was taken; reload on SIGHUP.

    Raises:
        UsageError: If the certificate or the key cannot be used, or the address cannot be listened on.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        access_log=False,  # it would log queries
        log_config=None,
        server_header=False,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"{address.certificate}, {address.key}: no certificate with its key: {error}") from error
    listening = _listen(address)
    log.info("serving on %s://%s:%d", "https" if address.certificate else "http", *listening.getsockname()[:2])
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again when it has finished
    asyncio.run(_serve(uvicorn.Server(config), service, listening))


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        raise UsageError(
            f"{address.host}, port {address.port}: cannot listen there: {error.strerror}: give another --host or --port"
        ) from error


async def _serve(server: uvicorn.Server, service: Service, listening: socket.socket) -> None:
    reloads = set[asyncio.Task[None]]()  # else they could be collected

    def reload() -> None:
        task = asyncio.create_task(service.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    if hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
    await server.serve(sockets=[listening])

"""How a server is to behave."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """What a server allows, and to whom.

    Attributes:
        host: The address it listens at.
        port: The port; 0 takes a free one.
        api_key: What ``/v1`` asks for; ``None``: nothing.
        max_tokens: The longest answer, in tokens.
        max_rows: How many answers are written at once.
        max_waiting: How many more may wait for their turn before others are turned away.
        timeout: Seconds that a request may take, waiting included.
        grace: Seconds that running answers get once the server is told to stop.
        max_body: Bytes of a request's body.
        body_timeout: Seconds that a client may take to send it.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    max_tokens: int = 2048
    max_rows: int = 32
    max_waiting: int = 128
    timeout: float = 600.0
    grace: float = 30.0
    max_body: int = 16 << 20
    body_timeout: float = 30.0

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def capacity(self) -> int:
        """How many answers are written or wait, at most."""
        return self.max_rows + self.max_waiting

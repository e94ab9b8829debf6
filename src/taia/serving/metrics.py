"""What happens on a server, for Prometheus."""

from __future__ import annotations

import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from taia.serving.call import Admission

_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)


class Metrics:
    """A server's counters.

    Args:
        gate: Knows how many answers are under way.
    """

    def __init__(self, gate: Admission) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "taia_requests",
            "Requests that ended, by mode, kind and HTTP status (499: the client went away).",
            ("mode", "kind", "status"),
            registry=self._registry,
        )
        self.tokens = Counter(
            "taia_tokens",
            "Tokens of prompts and of answers, by mode.",
            ("mode", "kind"),
            registry=self._registry,
        )
        self.first_token = Histogram(
            "taia_time_to_first_token_seconds",
            "From a request's arrival to its first token, by mode.",
            ("mode",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.latency = Histogram(
            "taia_request_seconds",
            "From a request's arrival to its end, by mode.",
            ("mode",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        for name, help_text, read in (
            ("taia_answers_running", "Answers being written.", lambda: gate.running),
            ("taia_answers_waiting", "Answers waiting for their turn.", lambda: gate.waiting),
        ):
            Gauge(name, help_text, registry=self._registry).set_function(read)

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self._registry)


class RequestWatch:
    """One request's share of the counters.

    Args:
        metrics: Where to count it.
        kind: ``chat`` or ``completion``.
    """

    def __init__(self, metrics: Metrics, kind: str) -> None:
        self.mode = ""
        self._metrics, self._kind = metrics, kind
        self._began = time.perf_counter()
        self._started = self._ended = False

    def token(self) -> None:
        """A token came."""
        if not self._started:
            self._metrics.first_token.labels(self.mode).observe(self._seconds())
        self._started = True

    def end(self, status: int, read: int = 0, written: int = 0) -> None:
        """The request ended; only the first time counts.

        Args:
            status: The HTTP status.
            read: Tokens of its prompts.
            written: Tokens of its answers.
        """
        if self._ended:
            return
        self._ended = True
        self._metrics.requests.labels(self.mode, self._kind, str(status)).inc()
        if self.mode:
            self._metrics.latency.labels(self.mode).observe(self._seconds())
            self._metrics.tokens.labels(self.mode, "prompt").inc(read)
            self._metrics.tokens.labels(self.mode, "answer").inc(written)

    def _seconds(self) -> float:
        return time.perf_counter() - self._began

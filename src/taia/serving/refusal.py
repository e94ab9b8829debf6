"""A request that gets no answer, as OpenAI's interface says it."""

from __future__ import annotations

from typing import Any, Final

from taia.errors import InputError

_KINDS: Final = {401: "authentication_error", 429: "rate_limit_error"}


class RefusedError(InputError):
    """A request that cannot be answered.

    Args:
        problem: What was wrong, in one line.
        mend: What to do about it, in one line.
        status: The HTTP status.
        param: The parameter at fault.
        code: OpenAI's word for the case, where there is one.
        retry_after: Seconds after which trying again makes sense.
    """

    def __init__(
        self,
        problem: str,
        mend: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(problem, mend)
        self.status = status
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with it."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    def to_json(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": f"{self.problem} {self.mend}",
                "type": _KINDS.get(self.status, kind),
                "param": self.param,
                "code": self.code,
            }
        }

"""What an export did, and how it was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from taia.export.targets import Name


@dataclass(frozen=True, slots=True)
class Check:
    """One way in which an output was checked.

    Attributes:
        said: What was compared with what and what came out, in one sentence.
        passed: Whether they agree.
        measured: The numbers behind it.
    """

    said: str
    passed: bool
    measured: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    """What a target wrote.

    Attributes:
        notes: What a careful reader would want to know, one sentence each.
        use: The command that uses the output, with ``{output}`` where its path goes.
    """

    notes: tuple[str, ...] = ()
    use: str | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """What an export did.

    Attributes:
        target: The program it was written for.
        output: The folder.
        files: Names of the files in it.
        checks: How it was checked; none where that was switched off.
        notes: What a careful reader would want to know, one sentence each.
        use: The command that uses the output.
    """

    target: Name
    output: Path
    files: tuple[str, ...]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    use: str | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "output": str(self.output)}

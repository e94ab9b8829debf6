"""A training's loss."""

from __future__ import annotations

from collections.abc import Sequence

from taia.reporting.svg.drawing import WIDTH, line, picture, step, text


def losses(values: Sequence[float]) -> str:
    """The training loss, step by step."""
    left, right, top, bottom = 42, WIDTH - 12, 10, 130
    high = max(values) * 1.05 or 1.0

    def x(number: int) -> float:
        return left + (number - 1) / max(1, len(values) - 1) * (right - left)

    def y(value: float) -> float:
        return bottom - value / high * (bottom - top)

    distance = step(high, 6)
    parts = []
    for number in range(int(high / distance) + 1):
        value = number * distance
        parts.append(line("grid", left, y(value), right, y(value)))
        parts.append(text("tick", left - 6, y(value) + 4, f"{value:g}", "end"))
    points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(values, 1))
    parts.append(f'<polyline class="curve" points="{points}"/>')
    for at in sorted({1, len(values)}):
        anchor = "start" if at == 1 and len(values) > 1 else "end"
        parts.append(text("tick", x(at), bottom + 16, f"step {at}", anchor))
    parts.append(text("axis", (left + right) / 2, bottom + 16, "loss, nats a token", "middle"))
    words = f"Training loss from {values[0]:.2f} to {values[-1]:.2f} in {len(values)} steps"
    return picture(bottom + 24, words, parts)

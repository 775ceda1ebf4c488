"""A line plot as SVG: enough for the curves in the docs, and nothing to install."""

from __future__ import annotations

import math

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 360, 64, 48, 40, 130
COLOURS = ["#2563eb", "#dc2626", "#059669", "#9333ea"]

Series = dict[str, list[tuple[float, float]]]


def plot(title: str, x_label: str, y_label: str, series: Series, *, logarithmic: bool = True) -> str:
    """Draws named series of points; x is logarithmic by default, y begins at zero."""
    points = [point for line in series.values() for point in line]

    def position(value: float) -> float:
        return math.log10(value) if logarithmic else value

    low, high = (pick(position(x) for x, _ in points) for pick in (min, max))
    top = max(y for _, y in points) * 1.15 or 1.0
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(x: float) -> float:
        return LEFT + inner_width * ((position(x) - low) / (high - low) if high > low else 0.5)

    def up(y: float) -> float:
        return TOP + inner_height * (1 - y / top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="bold">{title}</text>',
        f'<text x="{LEFT + inner_width / 2}" y="{HEIGHT - 10}" text-anchor="middle">{x_label}</text>',
        f'<text x="16" y="{TOP + inner_height / 2}" text-anchor="middle" '
        f'transform="rotate(-90 16 {TOP + inner_height / 2})">{y_label}</text>',
    ]
    for step in range(5):
        y = top * step / 4
        parts.append(f'<path d="M{LEFT} {up(y):.1f}H{WIDTH - RIGHT}" stroke="#d4d4d8"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{up(y) + 4:.1f}" text-anchor="end">{y:.3g}</text>')
    for x in sorted({x for x, _ in points}):
        place = f'x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 18}"'
        parts.append(f'<text {place} text-anchor="middle">{x:g}</text>')
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}"/>' for x, y in line]
        parts.append(
            f'<text x="{WIDTH - RIGHT + 12}" y="{TOP + 14 + 18 * number}" fill="{colour}">{name}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])

"""The frontier of purification as an SVG: residual correlation across, PSNR up, the number of evaluations as the area.

What lies further to the left has less of the perturbation, what lies higher is nearer to the clean image. Settings that
none beats are filled. Everything stands in the document of `bench`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment

ACROSS, UP, AREA, FILLED = "residual correlation", "PSNR to clean (dB)", "evaluations", "on the frontier"
WIDTH, HEIGHT, MARGIN = 640, 420, 56
SMALLEST, LARGEST = 2.5, 12.0  # radii
TICKS = 5

PAGE = Environment(autoescape=True).from_string(
    """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ width }} {{ height }}" font-family="sans-serif"
 font-size="12" role="img" aria-label="{{ up }} over {{ across }} of {{ dots | length }} settings">
<rect width="100%" height="100%" fill="#fff"/>
{% for x, text in columns %}<text x="{{ x }}" y="{{ height - margin + 20 }}" text-anchor="middle">{{ text }}</text>
<path d="M{{ x }} {{ margin }}V{{ height - margin }}" stroke="#ddd"/>
{% endfor %}{% for y, text in lines %}<text x="{{ margin - 8 }}" y="{{ y + 4 }}" text-anchor="end">{{ text }}</text>
<path d="M{{ margin }} {{ y }}H{{ width - margin }}" stroke="#ddd"/>
{% endfor %}<text x="{{ width / 2 }}" y="{{ height - 12 }}" text-anchor="middle">{{ across }}</text>
<text x="16" y="{{ height / 2 }}" text-anchor="middle" transform="rotate(-90 16 {{ height / 2 }})">{{ up }}</text>
{% for dot in dots %}<circle cx="{{ dot.x }}" cy="{{ dot.y }}" r="{{ dot.r }}" stroke="#1f5fa8" \
fill="{{ '#1f5fa8' if dot.filled else 'none' }}" fill-opacity=".6"><title>{{ dot.title }}</title></circle>
{% endfor %}</svg>
"""
)


def svg(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The plot of the rows that have both figures; None for fewer than two."""
    points = [row for row in rows if None not in (row["figures"].get(ACROSS), row["figures"].get(UP))]
    if len(points) < 2:
        return None
    across, up = ([float(row["figures"][name]) for row in points] for name in (ACROSS, UP))
    most = max(float(row["figures"].get(AREA) or 1) for row in points)
    xs, ys = _scale(across, MARGIN, WIDTH - MARGIN), _scale(up, HEIGHT - MARGIN, MARGIN)
    dots = [
        {
            "x": round(xs(x), 1),
            "y": round(ys(y), 1),
            "r": round(max(SMALLEST, LARGEST * (float(row["figures"].get(AREA) or 1) / most) ** 0.5), 1),
            "filled": bool(row["figures"].get(FILLED)),
            "title": f"{row['what']}: {y:.2f} dB, {x:.3f}",
        }
        for row, x, y in zip(points, across, up, strict=True)
    ]
    return PAGE.render(
        width=WIDTH, height=HEIGHT, margin=MARGIN, across=ACROSS, up=UP, dots=sorted(dots, key=lambda dot: -dot["r"]),
        columns=[(round(xs(v), 1), f"{v:.2f}") for v in _ticks(across)],
        lines=[(round(ys(v), 1), f"{v:.1f}") for v in _ticks(up)],
    )  # fmt: skip


def _scale(values: Sequence[float], low: float, high: float) -> Any:
    """value -> place between `low` and `high`."""
    least, span = min(values), (max(values) - min(values)) or 1.0
    return lambda value: low + (value - least) / span * (high - low)


def _ticks(values: Sequence[float]) -> list[float]:
    least, span = min(values), max(values) - min(values)
    return [least + span * k / (TICKS - 1) for k in range(TICKS)]

"""Charts: bars over time as SVG, drawn here, coloured by the style sheet.

The drawing is stretched to whatever room there is, so it holds no text: a stretched letter cannot be read. The scale
and the times stand beside it, in the page.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import attrs
from markupsafe import Markup, escape

from nora.web.ui import words
from nora.web.ui.periods import Series

WIDTH = 960.0
HEIGHT = 240.0
_GAP = 0.22
"""The part of a step that is left free between two bars."""


@attrs.frozen
class Chart:
    """A drawing, and what stands beside it: the marks of its scale from the top down, and times from left to right."""

    svg: Markup
    scale: tuple[str, ...]
    times: tuple[str, ...]


@attrs.frozen
class Bar:
    """One bar of a step: from `low` to `high`, of a `kind` that the style sheet knows."""

    kind: str
    low: float
    high: float
    slim: bool = False


def pulls(series: Series) -> Chart:
    """Draw the pulls of each step: hits, and misses upon them."""
    total = series.total
    label = f"Pulls: {total.pulls} in all, {total.hits} of them hits"
    bars = [[Bar("hit", 0, each.hits), Bar("miss", each.hits, each.pulls)] for each in series.steps]
    titles = [
        f"{words.number(each.hits)} of {words.number(each.pulls)} pulls were hits" for each in series.steps
    ]
    return _draw(series, label, bars, titles, nice_count, lambda value: words.number(int(value)))


def traffic(series: Series) -> Chart:
    """Draw the bytes of each step: those served, and before them those fetched."""
    total = series.total
    label = f"Traffic: {words.size(total.served)} served, {words.size(total.fetched)} fetched"
    bars = [
        [Bar("served", 0, each.served), Bar("fetched", 0, each.fetched, slim=True)] for each in series.steps
    ]
    titles = [
        f"{words.size(each.served)} served, {words.size(each.fetched)} fetched" for each in series.steps
    ]
    return _draw(series, label, bars, titles, nice_size, words.size)


def nice_count(most: float) -> float:
    """Give the top of a scale for counts up to `most`: an even number with one digit and zeros, which can be halved."""
    if most <= 10:
        return max(2.0, 2.0 * math.ceil(most / 2))
    power: float = 10.0 ** math.floor(math.log10(most))
    step = next((step for step in range(1, 11) if step * power >= most), 20)
    return step * power


def nice_size(most: float) -> float:
    """Give the top of a scale for bytes up to `most`: a power of two, or half way to it."""
    if most <= 1024:
        return 1024.0
    power: float = 2.0 ** math.floor(math.log2(most))
    return next(top for top in (power, 1.5 * power, 2 * power) if top >= most)


def _draw(
    series: Series,
    label: str,
    bars: Sequence[Sequence[Bar]],
    titles: Sequence[str],
    nice: Callable[[float], float],
    show: Callable[[float], str],
) -> Chart:
    top = nice(max((bar.high for each in bars for bar in each), default=0))
    step = WIDTH / len(bars)
    drawn = "".join(
        f'<g class="step"><rect class="ground" x="{_short(place * step)}" y="0" width="{_short(step)}" '
        f'height="{_short(HEIGHT)}"/>{"".join(_bar(bar, place * step, step, top) for bar in each)}'
        f"<title>{escape(_when(series, place))}: {escape(title)}</title></g>"
        for place, (each, title) in enumerate(zip(bars, titles, strict=True))
    )
    lines = "".join(
        f'<line class="grid" x1="0" x2="{_short(WIDTH)}" y1="{y}" y2="{y}"/>'
        for y in (_short(HEIGHT * part) for part in (0, 0.5, 1))
    )
    svg = Markup(  # noqa: S704
        f'<svg class="chart" viewBox="0 0 {_short(WIDTH)} {_short(HEIGHT)}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{lines}{drawn}</svg>'
    )
    places = [round(part * (len(bars) - 1)) for part in (0, 0.25, 0.5, 0.75, 1)]
    return Chart(
        svg, tuple(show(top * part) for part in (1, 0.5, 0)), tuple(_when(series, each) for each in places)
    )


def _bar(bar: Bar, x: float, step: float, top: float) -> str:
    if bar.high <= bar.low:
        return ""
    # One that is there is seen, however small.
    height = max(1.5, (bar.high - bar.low) / top * HEIGHT)
    y = max(0.0, HEIGHT - bar.low / top * HEIGHT - height)
    gap = step * (_GAP + (0.3 if bar.slim else 0))
    return (
        f'<rect class="{bar.kind}" x="{_short(x + gap / 2)}" y="{_short(y)}" width="{_short(step - gap)}" '
        f'height="{_short(height)}"/>'
    )


def _when(series: Series, place: int) -> str:
    """Write when a step begins: the day for long steps, else the time of the day, in UTC."""
    moment = time.gmtime(series.begins + place * series.period.step)
    return time.strftime("%d %b" if series.period.step >= 86400 else "%H:%M", moment)


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")

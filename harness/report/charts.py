"""Charts as inline SVG. Pure: numbers in, markup out.

Drawn by hand instead of by a plotting library: plotly's bundle alone is 4.7 MB, half of what a report may
weigh, and paints colours that do not follow the reader's theme. These are text, a few kilobytes each,
take their colours from the page's CSS, can be read without scripts, and carry what a pointer or the
arrow keys bring up in ``data-tip``.

A chart is 400 units wide, which is a phone's width in pixels: its text is never shrunk to nothing.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

WIDTH = 400
SLOTS = 8  # colours of the page; further series are not drawn
MOST_POINTS = 160  # of a line; a curve of thousands of steps looks the same
LETTER = 6.2  # width of a character of a tick's text

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line: points in data units, the colour it has on the whole page, and what a point says."""

    name: str
    slot: int
    points: Sequence[Point]
    tips: Sequence[str] = ()  # one for each point; empty: name, x and y
    dots: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Scale:
    """Data to units along one axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value, kept inside the axis."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 1)


def html(template: str, *values: object, **named: object) -> Markup:
    """Fill a template; values that are not markup already are escaped."""
    return Markup(template).format(*values, **named)


def join(parts: Iterable[Markup]) -> Markup:
    """Pieces of markup as one."""
    return Markup("").join(parts)


def short(value: float, digits: int = 4) -> str:
    """A number in few characters: 0.9231, 12.5, 1.2e-05."""
    if not math.isfinite(value):
        return "-"
    if value and abs(value) < 10**-digits:
        return f"{value:.1e}"
    text = f"{value:.{digits}f}" if abs(value) < 10 else f"{value:.1f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from low to high, about ``count`` of them."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def limits(values: Iterable[float], pad: float = 0.06) -> tuple[float, float]:
    """Low and high of finite values with some room; (0, 1) when there are none."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    if high - low < 1e-9:
        room = abs(high) * 0.05 or 0.5
        return low - room, high + room
    return low - pad * (high - low), high + pad * (high - low)


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[int]:
    """Rows of at most about ``most`` points, first and last kept."""
    if len(points) <= most:
        return list(range(len(points)))
    step = (len(points) - 1) / (most - 1)
    return sorted({round(number * step) for number in range(most)})


@dataclass
class Canvas:
    """Collects the parts of one chart and closes it."""

    label: str  # what a screen reader says
    height: float = 280
    width: float = WIDTH
    parts: list[Markup] = field(default_factory=list)

    def add(self, template: str, *values: object, **named: object) -> None:
        """One more element."""
        self.parts.append(html(template, *values, **named))

    def text(
        self, x: float, y: float, words: str, kind: str = "tick", anchor: str = "start"
    ) -> None:
        """Words at a place; ``kind`` is a class of the page."""
        self.add(
            '<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>',
            round(x, 1), round(y, 1), kind, anchor, words,
        )  # fmt: skip

    def dot(
        self, x: float, y: float, slot: int, tip: str, radius: float = 4, kind: str = ""
    ) -> None:
        """A point that tells what it is."""
        self.add(
            '<circle cx="{}" cy="{}" r="{}" class="dot {}" data-s="{}" data-tip="{}"/>',
            x, y, radius, kind, slot, tip,
        )  # fmt: skip

    def close(self) -> Markup:
        """The finished picture: one stop for the keyboard, arrow keys walk through its points."""
        return html(
            '<svg viewBox="0 0 {} {}" role="img" tabindex="0" aria-label="{}">{}</svg>',
            round(self.width), round(self.height), self.label, join(self.parts),
        )  # fmt: skip


def axes(
    canvas: Canvas,
    x: Scale,
    y: Scale,
    x_label: str,
    y_label: str,
    x_text: Callable[[float], str] = short,
    *,
    whole: bool = False,
) -> None:
    """Grid, ticks and names of both axes. ``whole``: x counts something."""
    for value in ticks(y.low, y.high, 5):
        place = y(value)
        canvas.add('<path d="M{} {}H{}" class="grid"/>', x.start, place, x.end)
        canvas.text(x.start - 5, place + 4, short(value), anchor="end")
    for value in ticks(x.low, x.high, 5):
        if whole and value != round(value):
            continue
        place = x(value)
        canvas.add('<path d="M{} {}V{}" class="grid"/>', place, y.end, y.start)
        canvas.text(place, y.start + 15, x_text(value), anchor="middle")
    canvas.add('<path d="M{} {}V{}H{}" class="axis"/>', x.start, y.end, y.start, x.end)
    canvas.text((x.start + x.end) / 2, canvas.height - 3, x_label, "name", "middle")
    canvas.text(4, 12, y_label, "name")


def line_chart(
    label: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    *,
    diagonal: bool = False,
    whole: bool = False,
    height: float = 280,
) -> Markup:
    """Lines over a common grid. ``diagonal``: the line of chance, or of perfect calibration."""
    canvas = Canvas(label, height)
    x_range = x_range or limits((p[0] for item in series for p in item.points), 0.0)
    y_range = y_range or limits(p[1] for item in series for p in item.points)
    gutter = 14 + LETTER * max(len(short(value)) for value in ticks(*y_range, 5) or [0.0])
    x, y = Scale(*x_range, gutter, WIDTH - 12), Scale(*y_range, height - 38, 22)
    axes(canvas, x, y, x_label, y_label, whole=whole)
    if diagonal:
        canvas.add('<path d="M{} {}L{} {}" class="chance"/>', x.start, y.start, x.end, y.end)
    for item in series:
        kept = [row for row in thin(item.points) if all(math.isfinite(v) for v in item.points[row])]
        if not kept:
            continue
        path = "L".join(f"{x(item.points[row][0])} {y(item.points[row][1])}" for row in kept)
        canvas.add(
            '<path d="M{}" class="line{}" data-s="{}"/>',
            path, " dashed" if item.dashed else "", item.slot,
        )  # fmt: skip
        for row in kept:
            px, py = item.points[row]
            said = f"{x_label} {short(px)}, {y_label} {short(py)}"
            tip = item.tips[row] if item.tips else f"{item.name}: {said}"
            canvas.dot(
                x(px), y(py), item.slot, tip, 4 if item.dots else 5, "" if item.dots else "ghost"
            )
    return canvas.close()


@dataclass(frozen=True)
class Evidence:
    """A row of an interval chart: estimate, 95 % interval, and the folds' scores with what they say."""

    name: str
    slot: int
    estimate: float
    low: float
    high: float
    folds: Sequence[tuple[float, str]] = ()
    tip: str = ""


def interval_chart(
    label: str, rows: Sequence[Evidence], x_label: str, *, greater_is_better: bool = True
) -> Markup:
    """A line for each row: the interval, the estimate on it, and a small dot for each fold below."""
    step, top = 44, 8
    canvas = Canvas(label, top + step * len(rows) + 40)
    everything = [
        v for row in rows for v in (row.low, row.high, row.estimate, *(f[0] for f in row.folds))
    ]
    x = Scale(*limits(everything), 12, WIDTH - 12)
    bottom = top + step * len(rows)
    for value in ticks(x.low, x.high, 5):
        canvas.add('<path d="M{} {}V{}" class="grid"/>', x(value), top, bottom)
        canvas.text(x(value), bottom + 15, short(value), anchor="middle")
    canvas.add('<path d="M{} {}H{}" class="axis"/>', x.start, bottom, x.end)
    side = "right" if greater_is_better else "left"
    canvas.text(WIDTH / 2, canvas.height - 5, f"{x_label}; better to the {side}", "name", "middle")
    for number, row in enumerate(rows):
        y = top + step * number + 26
        tip = (
            row.tip
            or f"{row.name}: {short(row.estimate)}, 95 % {short(row.low)} to {short(row.high)}"
        )
        canvas.text(12, y - 12, shortened(row.name, 52), "row")
        if math.isfinite(row.low) and math.isfinite(row.high):
            canvas.add(
                '<path d="M{} {y}H{}M{} {}v8M{} {}v8" class="line thick" data-s="{}"/>',
                x(row.low), x(row.high), x(row.low), y - 4, x(row.high), y - 4, row.slot, y=y,
            )  # fmt: skip
        for value, said in row.folds:
            if math.isfinite(value):
                canvas.dot(x(value), y + 10, row.slot, said, 2.6, "fold")
        if math.isfinite(row.estimate):
            canvas.dot(x(row.estimate), y, row.slot, tip, 5.5)
    return canvas.close()


def shortened(text: str, most: int) -> str:
    """Long names lose their middle."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2 - 1) :]}"


def scatter_chart(
    label: str,
    points: Sequence[tuple[float, float, float | None, float | None, str]],
    x_label: str,
    y_label: str,
    *,
    diagonal: bool = True,
) -> Markup:
    """Points of (x, y, low of x, high of x, words) with the interval of x as a bar."""
    canvas = Canvas(label, 300)
    xs = [v for point in points for v in (point[0], point[2], point[3]) if v is not None]
    ys = [point[1] for point in points]
    x_range, y_range = limits(xs), limits(ys)
    gutter = 14 + LETTER * max(len(short(value)) for value in ticks(*y_range, 5) or [0.0])
    x, y = Scale(*x_range, gutter, WIDTH - 12), Scale(*y_range, 262, 22)
    axes(canvas, x, y, x_label, y_label)
    low, high = max(x.low, y.low), min(x.high, y.high)
    if diagonal and low < high:
        canvas.add('<path d="M{} {}L{} {}" class="chance"/>', x(low), y(low), x(high), y(high))
    for number, (px, py, left, right, words) in enumerate(points):
        if left is not None and right is not None:
            canvas.add(
                '<path d="M{} {}H{}" class="line thin" data-s="0"/>', x(left), y(py), x(right)
            )
        canvas.dot(x(px), y(py), 0, f"{number + 1}. {words}", 5)
        canvas.text(x(px) + 8, y(py) - 5, str(number + 1))
    return canvas.close()


@dataclass(frozen=True)
class Span:
    """A bar of a time chart: hours from its start to its end."""

    name: str
    slot: int
    start: float
    end: float
    tip: str
    late: bool = False


def gantt_chart(label: str, spans: Sequence[Span], deadline: float | None = None) -> Markup:
    """A bar for each span under its name; hours from now along the bottom."""
    step, top = 36, 6
    bottom = top + step * len(spans)
    canvas = Canvas(label, bottom + 36)
    last = max([span.end for span in spans] + ([deadline] if deadline else []), default=1.0)
    x = Scale(0.0, last * 1.02 or 1.0, 10, WIDTH - 12)
    for value in ticks(x.low, x.high, 6):
        canvas.add('<path d="M{} {}V{}" class="grid"/>', x(value), top, bottom)
        canvas.text(x(value), bottom + 14, short(value, 2), anchor="middle")
    canvas.add('<path d="M{} {}H{}" class="axis"/>', x.start, bottom, x.end)
    canvas.text(WIDTH / 2, canvas.height - 4, "hours from now", "name", "middle")
    for number, span in enumerate(spans):
        y = top + step * number
        width = max(2.0, round(x(span.end) - x(span.start), 1))
        canvas.text(12, y + 13, shortened(span.name, 52), "row")
        canvas.add(
            '<rect x="{}" y="{}" width="{}" height="12" rx="3" class="bar{}" data-s="{}" data-tip="{}"/>',
            x(span.start), y + 18, width, " late" if span.late else "", span.slot, span.tip,
        )  # fmt: skip
    if deadline is not None:
        canvas.add('<path d="M{} {}V{}" class="deadline"/>', x(deadline), top, bottom)
    return canvas.close()

"""Pieces that every part of the report is built from: tables, boxes, pictures, numbers for people."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.report.charts import html, join, short, shortened
from harness.report.data import Picture

TABLE_ROWS = 60  # of long lists


@dataclass(frozen=True)
class Part:
    """A part of a competition's report, with the name it has in the page's navigation."""

    title: str
    body: Markup


def moment(text: str) -> str:
    """2026-11-25T18:43:32.123Z -> 2026-11-25 18:43 UTC."""
    return f"{text[:10]} {text[11:16]} UTC"


def span(seconds: float | None) -> str:
    """Seconds for people."""
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def number(value: Any) -> float:
    """A float, or NaN for what is none."""
    return float(value) if isinstance(value, int | float) else math.nan


def text(value: Any) -> str:
    """A number, or nothing."""
    return short(value) if isinstance(value, int | float) else ""


def two(first: Any, second: Any, words: str) -> str:
    """A number and what it is to be compared with."""
    return (
        f"{text(first)}, {text(second)} {words}" if first is not None and second is not None else ""
    )


def heat(value: float) -> int:
    """0 to 5: how dark a correlation's cell is. Members of one task correlate; 0.5 is already low."""
    return min(5, max(0, round((value - 0.5) * 10))) if math.isfinite(value) else 0


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    numeric: Sequence[int] = (),
    caption: str = "",
) -> Markup:
    """A table that scrolls by itself when the screen is narrower."""

    def cell(tag: str, index: int, value: object) -> Markup:
        kind = Markup(' class="num"') if index in numeric else ""
        scope = Markup(' scope="col"') if tag == "th" else ""
        return html("<{}{}{}>{}</{}>", tag, kind, scope, value, tag)

    head = join(cell("th", index, name) for index, name in enumerate(columns))
    body = join(
        html("<tr>{}</tr>", join(cell("td", index, value) for index, value in enumerate(row)))
        for row in rows
    )
    title = html('<p class="dim">{}</p>', caption) if caption else ""
    return html(
        '{}<div class="scroll" tabindex="0" role="region" aria-label="{}"><table><thead><tr>{}</tr>'
        "</thead><tbody>{}</tbody></table></div>",
        title, caption or ", ".join(columns), head, body,
    )  # fmt: skip


def card(title: str, *content: object, wide: bool = False) -> Markup:
    """A box with a title; a wide one takes two places of a grid."""
    kind = "card two" if wide else "card"
    return html('<div class="{}"><h3>{}</h3>{}</div>', kind, title, join(map(html_of, content)))


def html_of(value: object) -> Markup:
    """Markup as it is; anything else as a paragraph."""
    return value if isinstance(value, Markup) else html('<p class="dim">{}</p>', value)


def grid(cards: Sequence[Markup], *, halves: bool = False) -> Markup:
    """Boxes side by side, as many as fit; ``halves``: two at most, for pictures worth their width."""
    kind = "grid halves" if halves else "grid"
    return html('<div class="{}">{}</div>', kind, join(cards)) if cards else Markup("")


def folded(cards: list[Markup], most: int) -> Markup:
    """The first boxes in sight, the others behind a summary."""
    rest = cards[most:]
    more = html("<details><summary>{} more</summary>{}</details>", len(rest), grid(rest))
    return join([grid(cards[:most]), *([more] if rest else [])])


def key(slot: int | None) -> Markup:
    """A dot in a run's colour."""
    return (
        html('<span class="key keep" data-s="{}"></span>', slot) if slot is not None else Markup("")
    )


def definition(pairs: Sequence[tuple[str, object]]) -> Markup:
    """Names and values."""
    return html("<dl>{}</dl>", join(html("<dt>{}</dt><dd>{}</dd>", k, v) for k, v in pairs))


def pictures(items: Sequence[Picture], *, small: bool = False) -> Markup:
    """Pictures with captions."""
    return html(
        '<div class="pictures{}">{}</div>',
        " small" if small else "",
        join(
            html(
                '<figure{}><img src="{}" alt="{}" decoding="async"><figcaption><b>{}</b><br>{}'
                "</figcaption></figure>",
                Markup(' class="wrong"') if item.wrong else "",
                item.uri, f"{item.title}. {item.caption}", item.title, item.caption,
            )
            for item in items
        ),
    )  # fmt: skip


def confusion_table(cells: Mapping[str, int], label: str) -> Markup:
    """Truth down, decision across; darker holds more of its row."""

    def cell(count: int, row: int) -> Markup:
        share = count / row if row else 0.0
        return html(
            '<td class="h{}">{}<br><small>{:.1%}</small></td>', round(5 * share), count, share
        )

    tn, fp = cells.get("true_negatives", 0), cells.get("false_positives", 0)
    fn, tp = cells.get("false_negatives", 0), cells.get("true_positives", 0)
    return html(
        '<table class="heat matrix"><thead><tr><td></td><th scope="col">called no</th>'
        '<th scope="col">called yes</th></tr></thead><tbody><tr><th scope="row">no {}</th>{}{}</tr>'
        '<tr><th scope="row">{}</th>{}{}</tr></tbody></table>',
        shortened(label, 24), cell(tn, tn + fp), cell(fp, tn + fp),
        shortened(label, 24), cell(fn, fn + tp), cell(tp, fn + tp),
    )  # fmt: skip

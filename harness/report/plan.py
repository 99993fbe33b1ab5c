"""The plan's part of the report."""

from markupsafe import Markup

from harness.planning import Plan
from harness.report.charts import SLOTS, Span, gantt_chart, html, join, short
from harness.report.widgets import card, grid, table


def plan_section(plan: Plan | None) -> Markup:
    """The plan as a picture and a table; empty without one."""
    if plan is None or not plan.items:
        return Markup("")
    spans = [
        Span(
            f"{item.name}, {item.accelerator}, {item.hours:.2f} h",
            number % SLOTS,
            item.start,
            item.end,
            f"{item.name}: {item.hours:.2f} h {item.source}, ready in {item.end:.1f} h"
            + (f"; {item.note}" if item.note else ""),
            item.in_time is False or item.in_quota is False,
        )
        for number, item in enumerate(plan.items)
        if item.hours is not None and item.start is not None and item.end is not None
    ]
    rows = [
        [
            item.name, item.accelerator, short(item.hours, 2) if item.hours is not None else "unknown",
            f"in {item.end:.1f} h" if item.end is not None else "-", f"{item.source}: {item.why}",
        ]
        for item in plan.items
    ]  # fmt: skip
    quota = (
        f"GPU quota: {plan.used_hours:.1f} h used, {plan.planned_hours:.1f} h planned of "
        f"{plan.quota_hours:g} h a week."
    )
    cards = []
    if spans:
        chart = gantt_chart(f"Plan of {len(spans)} runs", spans, plan.deadline)
        words = "Red dashes: the deadline. " if plan.deadline is not None else ""
        cards.append(card("Who runs when", chart, f"{words}Framed: late, or without quota."))
    columns = ["strategy", "on", "hours", "ready", "hours from"]
    cards.append(card("Hours", table(columns, rows, (2,), quota), *plan.assumptions))
    return html('<section id="plan"><h2>Plan</h2>{}</section>', join([grid(cards, halves=True)]))

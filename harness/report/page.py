"""The report as one HTML text: nothing from elsewhere, readable without scripts, everything escaped.

Run names, file names, ids and captions were written by others: every value goes through ``html``,
which escapes it, and the page's own policy allows no other script than the one it carries.
"""

import base64
import hashlib
from importlib.resources import files

from markupsafe import Markup

from harness.report.charts import html, join
from harness.report.data import CompetitionView, Report
from harness.report.plan import plan_section
from harness.report.scores import blends_part, members_part, runs_part, submissions_part
from harness.report.training import (
    confusion_part,
    costs_part,
    disagreements_part,
    gallery_part,
    histories_part,
    provenance_part,
    simsiam_part,
)
from harness.report.widgets import key, moment

PARTS = (
    runs_part,
    members_part,
    blends_part,
    submissions_part,
    histories_part,
    simsiam_part,
    confusion_part,
    gallery_part,
    costs_part,
    disagreements_part,
    provenance_part,
)


def render_page(report: Report) -> str:
    """The whole file."""
    style, script = (asset(name) for name in ("style.css", "script.js"))
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{digest(style)}'; script-src '{digest(script)}'"
    )
    made = [_competition(view, place) for place, view in enumerate(report.competitions)]
    sections = [section for section, _ in made]
    if len(made) == 1:
        links = [html('<a href="#{}">{}</a>', anchor, title) for anchor, title in made[0][1]]
    else:
        links = [
            html('<a href="#c{}">{}</a>', place, view.competition.title)
            for place, view in enumerate(report.competitions)
        ]
    planned = plan_section(report.plan)
    if planned:
        links.append(Markup('<a href="#plan">Plan</a>'))
    empty = Markup(
        '<section><h2>Nothing has run yet</h2><p class="lead">Push a strategy, then come back: '
        "<code>harness push linear_probe</code>. Or see the whole loop at work: "
        "<code>harness demo</code>.</p></section>"
    )
    notes = [html('<p class="busy">{}.</p>', note.rstrip(".")) for note in report.notes]
    return str(
        html(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            '<meta http-equiv="Content-Security-Policy" content="{}">'
            '<link rel="icon" href="data:,">'
            "<title>Report: {}</title><style>{}</style></head><body>"
            '<header><h1>{}</h1><button id="theme" hidden>Dark theme</button>'
            "<small>made {} by harness {}</small></header>"
            '<nav aria-label="Parts of the report"><div>{}</div></nav><main>{}{}{}{}</main>'
            "<footer><p>{}</p></footer>"
            '<div id="tip" role="status" hidden></div><script>{}</script></body></html>\n',
            policy,
            report.workspace,
            Markup(style),
            f"Report of {report.workspace}",
            moment(report.made_at),
            report.version,
            join(links),
            _overview(report),
            join(notes),
            join(sections) if sections else empty,
            planned,
            "Research software, not for clinical use. Pictures show films of the competition: its "
            "rules say who may see them.",
            Markup(script),
        )
    )


def asset(name: str) -> str:
    """A text file that lies beside this module."""
    return (files("harness.report") / name).read_text("utf-8")


def digest(text: str) -> str:
    """A text's hash as a content security policy wants it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _overview(report: Report) -> Markup:
    usage = report.usage
    runs = [view for item in report.competitions for view in item.runs]
    done = sum(view.score is not None for view in runs)
    facts = [
        (f"{done} of {len(runs)}", "runs with results"),
        (f"{usage.gpu_hours:.2f} h", f"GPU, {usage.gpu_hours_week:.2f} h in the last 7 days"),
        (f"{usage.other_hours:.2f} h", "CPU, as the kernels measured"),
        (str(usage.submissions), f"submissions, {usage.submissions_today} today"),
    ]
    return html(
        '<p class="lead">Remote {}, profile {}. Next: <code>{}</code></p><ul class="facts">{}</ul>',
        report.remote,
        report.profile,
        report.next_step,
        join(html("<li><b>{}</b>{}</li>", number, words) for number, words in facts),
    )


def _competition(view: CompetitionView, place: int) -> tuple[Markup, list[tuple[str, str]]]:
    """A competition's section, and (anchor, title) of its parts."""
    metric = view.comparison.metric if view.comparison else view.competition.metric
    drawn = sorted(
        (item for item in view.runs if item.slot is not None), key=lambda item: item.slot or 0
    )
    columns = view.competition.target_columns
    several = f", {len(columns)} targets" if len(columns) > 1 else ""
    parts: list[Markup] = [
        html(
            '<h2 id="c{}">{}</h2><p class="dim">{}, scored by {}{}</p>',
            place,
            view.competition.title,
            view.competition.slug,
            metric,
            several,
        )
    ]
    if len(drawn) > 1:
        buttons = join(
            html(
                '<button aria-pressed="true" data-slot="{}">{}{}</button>',
                item.slot,
                key(item.slot),
                item.run.run_id,
            )
            for item in drawn
        )
        parts.append(
            html(
                '<div class="legend" role="group" aria-label="Runs that are drawn">{}</div>',
                buttons,
            )
        )
    links = []
    for number, build in enumerate(PARTS):
        part = build(view, drawn, metric)
        if part is not None:
            anchor = f"c{place}-{number}"
            links.append((anchor, part.title))
            title = Markup("") if number == 0 else html("<h3>{}</h3>", part.title)
            parts.append(html('<div id="{}" class="part">{}{}</div>', anchor, title, part.body))
    return html("<section>{}</section>", join(parts)), links

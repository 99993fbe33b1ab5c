"""Scores: runs with intervals, curves, members side by side, blends, submissions."""

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from harness.report.charts import (
    Evidence,
    Series,
    html,
    interval_chart,
    join,
    line_chart,
    scatter_chart,
    short,
    shortened,
)
from harness.report.data import CompetitionView, RunView
from harness.report.widgets import (
    TABLE_ROWS,
    Part,
    card,
    grid,
    heat,
    key,
    moment,
    number,
    span,
    table,
)
from harness.standings import agreement

MOST_TARGETS = 12  # with curves of their own


def runs_part(view: CompetitionView, drawn: list[RunView], metric: str) -> Part | None:
    """Every run, then what the drawn ones look like."""
    rows = []
    for item in reversed(view.runs[-TABLE_ROWS:]):
        run, score = item.run, item.score
        state = "ok" if run.state == "COMPLETE" else "bad" if run.state.is_final else "busy"
        reason = item.problem or run.failure or run.unfinished
        rows.append(
            [
                html('<span class="word">{} {}</span>', key(item.slot), run.run_id),
                html('<span class="{} word">{}</span>{}', state, run.state.lower().replace("_", " "),
                     html("<br><small>{}</small>", shortened(reason, 200)) if reason else ""),
                short(score.mean_fold) if score else "-",
                f"{short(score.low)} to {short(score.high)}" if score else "-",
                short(score.pooled) if score else "-",
                score.n if score else "-",
                span(run.seconds),
                html('<span class="word">{}</span>', run.created_at[:16].replace("T", " ")),
            ]
        )  # fmt: skip
    if not rows:
        return None
    columns = [
        "run",
        "state",
        f"out-of-fold {metric}",
        "95 % interval",
        "pooled",
        "n",
        "time",
        "pushed",
    ]
    older = len(view.runs) - TABLE_ROWS
    runs = card(
        "Runs",
        table(columns, rows, (2, 3, 4, 5, 6), "Newest first. Score: mean over (seed, fold)."),
        *([f"{older} older runs are not listed."] if older > 0 else []),
    )
    evidence, curves = _evidence(view, drawn, metric), _curves(view, drawn)
    if len(view.competition.target_columns) == 1:
        return Part("Runs", join([runs, grid([*evidence, *curves], halves=True)]))
    return Part("Runs", join([runs, grid(evidence, halves=True), grid(curves)]))


def _evidence(view: CompetitionView, drawn: list[RunView], metric: str) -> list[Markup]:
    if not drawn:
        return []
    chart = interval_chart(
        f"Out-of-fold {metric} with 95 % interval and folds of {len(drawn)} runs",
        [_row(item, metric) for item in drawn],
        f"out-of-fold {metric}",
        greater_is_better=view.greater_is_better,
    )
    words = "Bar: 95 % bootstrap interval of the mean over folds. Small dots: single folds."
    return [card("Scores with intervals and folds", chart, words)]


def _row(item: RunView, metric: str) -> Evidence:
    score = item.score
    assert score is not None
    folds = []
    for entry in item.metrics.get("folds", []):
        value = number(entry.get("score"))
        where = f"seed {entry.get('seed')} fold {entry.get('fold')}"
        folds.append(
            (value, f"{item.run.run_id}, {where}: {short(value)} of {entry.get('n')} rows")
        )
    tip = (
        f"{item.run.run_id}: {metric} {short(score.mean_fold)}, 95 % {short(score.low)} to "
        f"{short(score.high)}, n {score.n}"
    )
    return Evidence(
        item.run.run_id, item.slot or 0, score.mean_fold, score.low, score.high, folds, tip
    )


def _curves(view: CompetitionView, drawn: list[RunView]) -> list[Markup]:
    """ROC, precision and recall, and calibration of each target."""
    targets = view.competition.target_columns
    cards = []
    for name in targets[:MOST_TARGETS]:
        have = [item for item in drawn if name in item.curves]
        if not have:
            continue
        of = f" of {name}" if len(targets) > 1 else ""
        share = have[0].curves[name].positives / have[0].curves[name].rows
        roc = [Series(item.run.run_id, item.slot or 0, item.curves[name].roc) for item in have]
        pr = [Series(item.run.run_id, item.slot or 0, item.curves[name].pr) for item in have]
        cards += [
            card(f"ROC{of}", line_chart(
                f"ROC curves{of} of {len(have)} runs", roc, "false positive rate", "true positive rate",
                (0, 1), (0, 1), diagonal=True,
            )),
            card(f"Precision and recall{of}", line_chart(
                f"Precision-recall curves{of} of {len(have)} runs", pr, "recall", "precision", (0, 1), (0, 1),
            ), f"Chance is {share:.3f}, the share of positives."),
            _calibration(have, name, of),
        ]  # fmt: skip
    if len(targets) > MOST_TARGETS:
        cards.append(card("More targets", f"{len(targets) - MOST_TARGETS} more are not drawn."))
    return cards


def _calibration(have: list[RunView], name: str, of: str) -> Markup:
    series = []
    for item in have:
        bins = item.curves[name].calibration
        tips = [
            f"{item.run.run_id}: said {said:.3f}, true {true:.3f}, {rows} rows"
            for said, true, rows in bins
        ]
        points = [(said, true) for said, true, _ in bins]
        series.append(Series(item.run.run_id, item.slot or 0, points, tips, dots=True))
    chart = line_chart(
        f"Calibration{of} of {len(series)} runs", series, "mean prediction", "observed share",
        (0, 1), (0, 1), diagonal=True,
    )  # fmt: skip
    return card(f"Calibration{of}", chart, "Ten equal bins; dotted: perfect.")


def members_part(view: CompetitionView, drawn: list[RunView], metric: str) -> Part | None:
    """Paired differences and correlations, or why there are none."""
    del drawn, metric
    found = view.comparison
    if found is None:
        reason = view.no_comparison
        if not reason or not view.runs:
            return None
        return Part("Side by side", card("Not compared", reason))
    names = [member.name for member in found.members]
    rows = []
    for index, member in enumerate(found.members):
        gain = member.versus_best
        rows.append(
            [
                f"{index + 1}. {member.name}" + (" (imported)" if member.imported else ""),
                short(member.score.mean_fold),
                gain.text() if gain else "best",
                f"{gain.p_value:.3f}" if gain else "",
            ]
        )
    paired = card(
        "Members against the best",
        table(["member", "score", "difference, paired 95 %", "p"], rows, (1, 2, 3),
              "Both on the same 2,000 resamples of ids"),
        *(f"Note: {note}" for note in found.notes),
        wide=True,
    )  # fmt: skip
    if len(names) < 2:
        return Part("Side by side", grid([paired]))
    head = join(html('<th scope="col" class="num">{}</th>', i + 1) for i in range(len(names)))
    body = join(
        html(
            '<tr><th scope="row" title="{}">{}. {}</th>{}</tr>', name, i + 1, shortened(name, 22),
            join(html('<td class="h{}">{:.3f}</td>', heat(value), value) for value in line),
        )
        for i, (name, line) in enumerate(zip(names, found.correlations, strict=True))
    )  # fmt: skip
    heat_map = html(
        '<p class="dim">Spearman inside folds; a blend gains from low ones</p><div class="scroll" '
        'tabindex="0" role="region" aria-label="Rank correlations"><table class="heat"><thead><tr><td></td>{}</tr>'
        "</thead><tbody>{}</tbody></table></div>",
        head, body,
    )  # fmt: skip
    return Part("Side by side", grid([paired, card("Correlation of predictions", heat_map)]))


def blends_part(view: CompetitionView, drawn: list[RunView], metric: str) -> Part | None:
    """The newest blend's weights, earlier ones, and methods side by side."""
    del drawn
    if not view.blends:
        return None
    name, record = view.blends[-1]
    cards = [_newest_blend(name, record, metric), _earlier_blends(view)]
    methods = [
        [item.get("method"), short(number((item.get("score_nested") or {}).get("mean_fold"))),
         short(number(item.get("in_sample"))),
         f"{number((item.get('versus_best') or {}).get('gain')):+.4f}"]
        for item in record.get("methods", [])
    ]  # fmt: skip
    if len(methods) > 1:
        columns = ["method", "nested", "in sample", "against best member"]
        shown = table(columns, methods, (1, 2, 3), "Of the newest blend")
        cards.append(card("Methods on nested folds", shown, wide=True))
    return Part("Blends", grid(cards))


def _newest_blend(name: str, record: Mapping[str, Any], metric: str) -> Markup:
    members = record.get("members", [])
    weights = dict(record.get("recipe", {}).get("weights", []))
    top = max((abs(number(value)) for value in weights.values()), default=1.0) or 1.0
    rows = []
    for member in members:
        run_id = member.get("run_id") or member.get("name") or "?"
        weight = number(weights.get(run_id, member.get("weight")))
        bar = html(
            '<svg class="weight" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
            '<rect width="{}" height="8"/></svg>',
            round(100 * abs(weight) / top, 1) if math.isfinite(weight) else 0,
        )
        rows.append([run_id, short(number(score_of(member))), f"{weight:.4f}", bar])
    nested = record.get("score_nested") or {}
    return card(
        f"Newest blend: {record.get('method', '?')}",
        html("<p><b>{}</b> nested {}, 95 % {} to {}, n {}</p>", short(number(nested.get("mean_fold"))),
             metric, short(number(nested.get("low"))), short(number(nested.get("high"))), nested.get("n", "-")),
        table(["member", "out-of-fold", "weight", ""], rows, (1, 2), "Weights of the file on the test set"),
        html('<p class="dim">File: <code>{}</code></p>', record.get("file", {}).get("name", name)),
    )  # fmt: skip


def _earlier_blends(view: CompetitionView) -> Markup:
    history = []
    # By the file: a blend of one may have been handed in before, as that member's own.
    scores = {item.sha256: item.public_score for item in view.submissions if item.public_score}
    for _, item in view.blends[-12:][::-1]:
        score = item.get("score_nested") or {}
        gain = item.get("versus_best") or {}
        history.append(
            [
                moment(item.get("created_at", " " * 16)), item.get("method", "?"), len(item.get("members", [])),
                short(number(score.get("mean_fold"))),
                f"{number(gain.get('gain')):+.4f}" if gain.get("gain") is not None else "-",
                scores.get(str((item.get("file") or {}).get("sha256"))) or "-",
            ]
        )  # fmt: skip
    columns = ["made", "method", "members", "nested", "against best member", "public"]
    words = "Nested: the weights that mix a fold were fitted on the others"
    return card("Blends so far", table(columns, history, (2, 3, 4, 5), words), wide=True)


def score_of(member: Mapping[str, Any]) -> Any:
    """A member's score from a blend's record, whichever form it has."""
    for name in ("oof_score", "score"):
        value = member.get(name)
        if isinstance(value, Mapping):
            return value.get("mean_fold")
        if value is not None:
            return value
    return None


def submissions_part(view: CompetitionView, drawn: list[RunView], metric: str) -> Part | None:
    """What was handed in, and how validation and leaderboard go together."""
    del drawn, metric
    if not view.submissions:
        return None
    rows = [
        [
            html('<span class="word">{}</span>', item.created_at[:16].replace("T", " ")), item.csv.name,
            short(item.cv_score) if item.cv_score is not None else "-",
            item.public_score or item.status.lower(), item.private_score or "-",
        ]
        for item in reversed(view.submissions[-TABLE_ROWS:])
    ]  # fmt: skip
    columns = ["sent", "file", "CV", "public", "private"]
    cards = [card("Submissions", table(columns, rows, (2, 3, 4), "Newest first"), wide=True)]
    scored = [item for item in view.submissions if item.cv_score is not None and item.public_score]
    if scored:
        points = [
            (point.cv, point.public, item.cv_low, item.cv_high,
             f"{point.label}: CV {short(point.cv)}, public {short(point.public)}")
            for point, item in zip(view.points, scored, strict=True)
        ]  # fmt: skip
        chart = scatter_chart(
            f"CV against public score of {len(points)} submissions", points, "CV", "public score"
        )
        words = "Bars: 95 % intervals of CV; dotted: both equal. "
        cards.append(
            card("CV against leaderboard", chart, words + agreement(view.points).text + ".")
        )
    return Part("Submissions", grid(cards))

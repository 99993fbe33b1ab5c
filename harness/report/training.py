"""What happened inside: learning curves, SimSiam, confusion, Grad-CAM, disagreements, provenance."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from harness.report.charts import Series, html, join, line_chart, short, shortened
from harness.report.data import CompetitionView, RunView
from harness.report.widgets import (
    TABLE_ROWS,
    Part,
    card,
    confusion_table,
    definition,
    folded,
    grid,
    number,
    pictures,
    table,
    text,
    two,
)

MATRICES_SHOWN = 6  # the others are behind a summary
SSL_COLUMNS = {
    "loss": "SimSiam loss",
    "std": "embedding std (0: collapsed)",
    "effective_rank": "effective rank",
    "knn_auc": "k-NN AUC of labelled films",
}


def histories_part(view: CompetitionView, drawn: list[RunView], metric: str) -> Part | None:
    """Validation score and loss of each run by epoch, a line for each fold."""
    del view, metric
    cards = []
    for item in drawn:
        fits = {name: columns for name, columns in item.histories.items() if "val_auc" in columns}
        if not fits:
            continue
        for column, words in (("val_auc", "validation score"), ("loss", "training loss")):
            series = _lines(item, fits, column, dots=False)
            if series:
                cards.append(card(
                    f"{item.run.run_id}: {words}",
                    line_chart(f"{words} of {item.run.run_id} by epoch, {len(series)} folds", series,
                               "epoch", words, whole=True, height=230),
                ))  # fmt: skip
    return Part("Learning curves", grid(cards, halves=True)) if cards else None


def _lines(
    item: RunView, fits: Mapping[str, Mapping[str, Sequence[float]]], column: str, *, dots: bool
) -> list[Series]:
    series = []
    for name, columns in fits.items():
        epochs, values = columns.get("epoch", ()), columns.get(column, ())
        points = [
            (x, y)
            for x, y in zip(epochs, values, strict=False)
            if math.isfinite(x) and math.isfinite(y)
        ]
        if points:
            part = name.partition("history_")[2].replace("_", " ") or name
            tips = [f"{part}, epoch {x:.0f}: {column} {short(y)}" for x, y in points]
            series.append(Series(part, item.slot or 0, points, tips, dots=dots))
    return series


def simsiam_part(view: CompetitionView, drawn: list[RunView], metric: str) -> Part | None:
    """Did self-supervision learn, or collapse? And whom it paired."""
    del view, metric
    parts = []
    for item in drawn:
        facts, pairs = item.metrics.get("ssl") or {}, item.metrics.get("pairs") or {}
        fits = {name: columns for name, columns in item.histories.items() if "knn_auc" in columns}
        if not fits and not facts:
            continue
        cards = []
        for column, words in SSL_COLUMNS.items():
            series = _lines(item, fits, column, dots=True)
            if series:
                cards.append(card(words, line_chart(
                    f"{words} of {item.run.run_id} by epoch", series, "epoch", words, whole=True, height=210,
                )))  # fmt: skip
        purity = pairs.get("label_purity") or {}
        said = [
            ("pairs", pairs.get("kind")),
            ("label purity of such pairs", two(purity.get("purity"), purity.get("chance"), "by chance")),
            ("films", facts.get("films")),
            ("mutual share", text(pairs.get("mutual_share"))),
            ("largest in-degree", pairs.get("max_in_degree")),
            ("duplicates", pairs.get("duplicates")),
            ("k-NN AUC before, after", two(facts.get("knn_auc_before"), facts.get("knn_auc_after"), "after")),
            ("feature rank before, after", two(facts.get("feature_rank_before"), facts.get("feature_rank_after"), "after")),
            ("embedding std at the end", two(facts.get("std_last"), facts.get("std_uniform"), "if uniform")),
        ]  # fmt: skip
        cards.append(
            card("Pairs and features", definition([(k, v) for k, v in said if v not in (None, "")]))
        )
        parts.append(html("<p><b>{}</b></p>{}", item.run.run_id, grid(cards)))
        if item.pairs:
            parts.append(card("Neighbours that became pairs", pictures(item.pairs, small=True)))
    return Part("SimSiam", join(parts)) if parts else None


def confusion_part(view: CompetitionView, drawn: list[RunView], metric: str) -> Part | None:
    """Truth against decision at each run's own threshold."""
    del metric
    cards = []
    for item in drawn:
        for target, section in (item.results.get("targets") or {}).items():
            for split, words in (("out_of_fold", "out-of-fold"), ("test", "test")):
                found = section.get(split)
                if not isinstance(found, Mapping) or "confusion" not in found:
                    continue
                of = f", {target}" if len(view.competition.target_columns) > 1 else ""
                label = target if of else view.competition.positive_label
                cards.append(card(
                    f"{item.run.run_id}: {words}{of}",
                    confusion_table(found["confusion"], label),
                    f"Threshold {number((section.get('threshold') or {}).get('value')):.3f}, chosen on "
                    f"out-of-fold predictions; n {found.get('n')}.",
                ))  # fmt: skip
    return Part("Confusion", folded(cards, MATRICES_SHOWN)) if cards else None


def gallery_part(view: CompetitionView, drawn: list[RunView], metric: str) -> Part | None:
    """Grad-CAM pictures, the first run's in sight."""
    del view, metric
    cards = [card(item.run.run_id, pictures(item.gallery)) for item in drawn if item.gallery]
    if not cards:
        return None
    lead = Markup(
        '<p class="dim">The worst errors first, framed; then typical films. Each film is explained by the '
        "network that never saw it; warm colours spoke for its decision.</p>"
    )
    rest = cards[1:]
    more = html("<details><summary>{} more runs</summary>{}</details>", len(rest), join(rest))
    return Part("Grad-CAM", join([lead, cards[0], *([more] if rest else [])]))


def disagreements_part(view: CompetitionView, drawn: list[RunView], metric: str) -> Part | None:
    """Films on which members differ most."""
    del drawn, metric
    if view.comparison is None or not view.comparison.disagreements:
        return None
    rows = [
        (row.id, row.targets, (f"{row.spread:.3f}",), row.predictions)
        for row in view.comparison.disagreements
    ]
    words = "Predictions of the first target; spread: standard deviation of ranks inside folds"
    return Part(
        "Disagreements",
        card("What members see differently", films_table(view, rows, ("spread of ranks",), words)),
    )


def costs_part(view: CompetitionView, drawn: list[RunView], metric: str) -> Part | None:
    """Films by which the members' mean loses most."""
    del drawn
    if view.comparison is None or not view.comparison.costs:
        return None
    rows = [
        (
            row.id,
            row.targets,
            (
                f"{row.cost:.4f}",
                f"{row.share:.0%}",
                short(math.nan if row.without is None else row.without),
            ),
            row.ranks,
        )
        for row in view.comparison.costs
    ]
    words = (
        f"Cost: {metric} gained if that film alone were predicted right, and its share of all that the "
        "members' mean lacks; score without: the mean's when it and those above are left out; then the "
        "film's rank in its fold, 1 the most positive. Look at them: wrong label, other scanner, or a "
        "shortcut that every member takes?"
    )
    shown = films_table(view, rows, ("cost", "share", "score without"), words)
    return Part("Costs", card("The films that cost most", shown))


def films_table(
    view: CompetitionView,
    films: Sequence[tuple[str, tuple[int, ...], tuple[str, ...], tuple[float, ...]]],
    facts: tuple[str, ...],
    words: str,
) -> Markup:
    """Films with their truth, some facts and a value of each member; pictures where there are any."""
    assert view.comparison is not None
    members = view.comparison.members
    with_pictures = any(name in view.thumbnails for name, *_ in films)
    rows = []
    for name, targets, values, by_member in films:
        picture = view.thumbnails.get(name)
        shown = (
            html('<img src="{}" alt="film {}" decoding="async">', picture, name) if picture else ""
        )
        rows.append(
            [
                *([shown] if with_pictures else []),
                name, " ".join(map(str, targets)), *values,
                *(f"{value:.3f}" for value in by_member),
            ]
        )  # fmt: skip
    lead = 1 if with_pictures else 0
    columns = [*(["film"] if with_pictures else []), "id", "truth", *facts,
               *(shortened(member.name, 24) for member in members)]  # fmt: skip
    return table(columns, rows, tuple(range(lead + 2, len(columns))), words)


def provenance_part(view: CompetitionView, drawn: list[RunView], metric: str) -> Part | None:
    """Kernel versions, digests, commits, library versions."""
    del drawn, metric
    entries = []
    for item in reversed(view.runs[-TABLE_ROWS:]):
        run = item.run
        versions = item.manifest.get("versions") or {}
        facts: list[tuple[str, object]] = [
            ("kernel", run.kernel),
            ("digest", html('<span class="hash">{}</span>', run.digest)),
            ("script sha256", html('<span class="hash">{}</span>', run.script_sha256)),
            ("commit", f"{run.commit[:12]}{' with changes' if run.dirty else ''}" if run.commit else "not in git"),
            ("datasets", ", ".join(f"{slug} v{value.get('version', '?')}" for slug, value in run.datasets.items()
                                   if isinstance(value, Mapping) and " " not in slug) or "none"),
            ("versions", ", ".join(f"{name} {value}" for name, value in sorted(versions.items())) or "-"),
            ("device", item.metrics.get("device") or "-"),
            ("weights", item.metrics.get("weights_from") or "-"),
        ]  # fmt: skip
        entries.append(
            html("<details><summary>{}</summary>{}</details>", run.run_id, definition(facts))
        )
    if view.blends:
        name, record = view.blends[-1]
        git, inputs = record.get("git") or {}, record.get("inputs") or {}
        file = record.get("file") or {}
        facts = [
            ("file", file.get("name", name)),
            ("sha256", html('<span class="hash">{}</span>', file.get("sha256", "-"))),
            ("rows", file.get("rows", "-")),
            ("members", ", ".join(str(m.get("kernel") or m.get("name")) for m in record.get("members", []))),
            ("commit", (git.get("commit") or "not in git")[:12] + (" with changes" if git.get("dirty") else "")),
            ("nested predictions", html('<span class="hash">{}</span>', inputs.get("nested_predictions_sha256", "-"))),
        ]  # fmt: skip
        entries.insert(
            0,
            html(
                "<details open><summary>Newest blend: {}</summary>{}</details>",
                name,
                definition(facts),
            ),
        )
    if not entries:
        return None
    lead = Markup('<p class="dim">Checked against disk by <code>harness why FILE</code>.</p>')
    return Part("Provenance", html('<div class="card">{}{}</div>', lead, join(entries)))

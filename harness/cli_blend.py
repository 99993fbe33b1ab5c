"""Commands around blends and submissions: parse, call, print. ``cli.py`` adds them to the program.

Imports are inside the commands, so that ``harness --help`` loads neither numpy, pandas nor kaggle.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli_common import bench_for, common_options

if TYPE_CHECKING:
    from harness.blending import Blend
    from harness.gate import Finding
    from harness.provenance import Check

# Spelled out here because methods.py needs numpy; a test keeps the two lists equal.
METHOD_CHOICES = (
    "auc-weights",
    "rank-mean",
    "logit-mean",
    "hill-climb",
    "stack",
    "best-single",
    "auto",
)
EXISTING_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def member_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which members take part, the same for blending and comparing."""
    for option in (
        click.option(
            "--shared-ids",
            is_flag=True,
            help="Labelled and test ids may coincide: the two tables merely count alike.",
        ),
        click.option(
            "--groups",
            type=EXISTING_FILE,
            help="CSV of id and group (patient): refuses groups spread over folds, resamples groups. "
            "Default: the groups that the runs name, where their competition has them.",
        ),
        click.option(
            "--runs",
            multiple=True,
            metavar="RUN",
            help="Exactly these runs or imports; may be repeated or separated by commas.",
        ),
        click.option("--competition", help="Slug, when runs of several competitions were pulled."),
    ):
        command = option(command)
    return command


def split_names(runs: tuple[str, ...]) -> list[str]:
    """Names from repeated and comma-separated options."""
    return [name for item in runs for name in item.split(",") if name]


@click.command("blend-and-submit")
@member_options
@click.option(
    "--method",
    type=click.Choice(METHOD_CHOICES),
    default="auc-weights",
    show_default=True,
    help="How members are mixed; auto takes the simplest within one standard error of the best.",
)
@click.option(
    "--floor",
    type=float,
    help="Drop members that score worse, by name. Default for AUC: 0.05 below the best.",
)
@click.option("--explain", is_flag=True, help="How weights came about, and every method's score.")
@click.option("--message", default="", help="Shown on the leaderboard's submission list.")
@click.option(
    "--reserve",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Warn before using the last submissions of the day.",
)
@click.option("--yes", is_flag=True, help="Do not ask when the gate warns. It never skips a block.")
@click.option(
    "--dry-run", is_flag=True, help="Blend, check and write the file, but submit nothing."
)
@common_options
def blend_and_submit(
    competition: str | None,
    runs: tuple[str, ...],
    groups: Path | None,
    shared_ids: bool,
    method: str,
    floor: float | None,
    explain: bool,
    message: str,
    reserve: int,
    yes: bool,
    dry_run: bool,
    remote: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Blend pulled runs, pass the gate, submit the file, show the score.

    Takes the newest complete, all-folds run of each strategy in the current profile and all imports.
    Scores are nested: weights that mix a fold were fitted on other ids. The file and its record are
    written to submissions/<competition>/.

    The gate blocks what the competition would refuse or what cannot change the score. It warns of the
    rest: on a terminal it asks, elsewhere (or with --yes) warnings are printed and it goes on.

    \b
    Examples:
      harness blend-and-submit --dry-run --explain
      harness blend-and-submit --method auto --message "three models"
      harness blend-and-submit --runs ssl-cpu-1 --runs linear_probe-cpu-2
      harness blend-and-submit --groups patients.csv --floor 0.95 --yes
    """
    from harness.commands.blend_and_submit import Options
    from harness.commands.blend_and_submit import blend_and_submit as run_blend
    from harness.terminal import print_json

    options = Options(method, floor, explain, groups, shared_ids, reserve)
    asks = sys.stdin.isatty() and sys.stderr.isatty() and not yes and not as_json
    with bench_for(remote, profile) as bench:
        result = run_blend(
            bench,
            competition,
            split_names(runs),
            message,
            dry_run=dry_run,
            options=options,
            confirm=ask if asks else None,
        )
        blend = result.blend
        if as_json:
            print_json(
                {
                    "method": blend.method,
                    "asked": blend.asked,
                    "metric": blend.metric,
                    "members": blend.members,
                    "dropped": blend.dropped,
                    "score": blend.score,
                    "rank_mean": blend.rank_mean,
                    "versus_best": blend.versus_best,
                    "versus_rank_mean": blend.versus_rank_mean,
                    "methods": [method_json(item) for item in blend.results],
                    "explanation": blend.explanation,
                    "csv": result.csv,
                    "record": result.record,
                    "submission": result.submission,
                    "warnings": result.warnings,
                    "findings": result.findings,
                    "public_noise": result.noise,
                }
            )
            return
        print_blend(blend, explain)
        for text in result.warnings:
            click.echo(f"note: {text}", err=True)
        click.echo(f"{result.csv}")
        if result.submission is None:
            blocked = any(finding.kind == "block" for finding in result.findings)
            verdict = "would be blocked, not submitted" if blocked else "valid, not submitted"
            click.echo(f"{'Dry run: ' if dry_run else ''}{verdict}.", err=True)
            return
        score = result.submission.public_score or f"not scored ({result.submission.error})"
        click.echo(f"submitted as {result.submission.ref}: public score {score}")
        if result.noise is not None:
            click.echo(result.noise.text)


def ask(findings: "Sequence[Finding]") -> bool:
    """Show the gate's warnings and ask."""
    for finding in findings:
        click.echo(f"{click.style('warning:', fg='yellow')} {finding}", err=True)
    return click.confirm("Submit all the same?", err=True)


def counted(count: int, what: str) -> str:
    """``1 seed``, ``5 folds``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def score_cells(score: Any) -> list[str]:
    """Score, interval, pooled, n."""
    from harness.terminal import number

    interval = f"{score.low:.4f} to {score.high:.4f}"
    return [number(score.mean_fold), interval, number(score.pooled), str(score.n)]


def method_json(item: Any) -> dict[str, Any]:
    """A method's result as JSON."""
    return {
        "method": item.method.name,
        "space": item.method.space,
        "score": item.score,
        "in_sample": item.in_sample,
        "versus_best": item.versus_best,
        "versus_rank_mean": item.versus_rank_mean,
        "weights": [float(weight) for weight in item.fitted.weights],
    }


def print_methods(results: Sequence[Any], best: str) -> None:
    """Every method's nested score beside what it gains."""
    from harness.terminal import print_table

    columns = [
        "method",
        "nested",
        "95% interval",
        "in-sample",
        f"gain over {best}",
        "over equal mean",
    ]
    rows = [
        [
            item.method.name,
            *score_cells(item.score)[:2],
            f"{item.in_sample:.4f}",
            item.versus_best.text(),
            item.versus_rank_mean.text(),
        ]
        for item in results
    ]
    print_table(columns, rows, numeric=columns[1:])


def print_blend(blend: "Blend", explain: bool) -> None:
    """Members with weights, the blend beside its baseline, and with --explain every method."""
    from harness.terminal import print_table

    rows = [
        [m.run_id + (" (imported)" if m.imported else ""), *score_cells(m.score), f"{m.weight:.4f}"]
        for m in blend.members
    ]
    rows.append([f"{blend.method} (nested)", *score_cells(blend.score), ""])
    baseline = blend.results[0].method.name
    if blend.method != baseline:
        rows.append([f"equal {baseline}", *score_cells(blend.rank_mean), ""])
    columns = ["member", f"oof {blend.metric}", "95% interval", "pooled", "n", "weight"]
    print_table(columns, rows, numeric=columns[1:])
    if len(blend.members) > 1:
        click.echo(
            f"gain over {blend.best.run_id}: {blend.versus_best.text()}; "
            f"over equal {baseline}: {blend.versus_rank_mean.text()}"
        )
    for run_id, reason in blend.dropped:
        click.echo(f"dropped: {run_id} {reason}")
    if explain and len(blend.members) > 1:
        click.echo()
        print_methods(blend.results, blend.best.run_id)
    if explain or blend.asked == "auto":
        click.echo()
        for line in blend.explanation:
            click.echo(line)


@click.command("compare")
@member_options
@click.option("--methods", is_flag=True, help="Score every blending method on nested folds too.")
@click.option(
    "--examples",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Labelled ids to name on which members disagree, and by which they lose most.",
)
@common_options
def compare(
    competition: str | None,
    runs: tuple[str, ...],
    groups: Path | None,
    shared_ids: bool,
    methods: bool,
    examples: int,
    remote: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Members side by side: scores with intervals, folds, correlations, and the ids that cost most.

    The difference to the best is paired: both are scored on the same 2,000 resamples of ids (or groups).

    \b
    Examples:
      harness compare
      harness compare --methods
      harness compare --runs ssl-cpu-1,features_lr-cpu-1 --examples 30 --json
    """
    from harness.commands.compare import compare as run_compare
    from harness.terminal import number, print_json, print_table

    with bench_for(remote, profile) as bench:
        result = run_compare(
            bench,
            competition,
            split_names(runs),
            with_methods=methods,
            examples=examples,
            groups=groups,
            allow_shared_ids=shared_ids,
        )
    if as_json:
        values = {name: getattr(result, name) for name in vars(result) if name != "methods"}
        print_json({**values, "methods": [method_json(item) for item in result.methods]})
        return
    rows = []
    for member in result.members:
        score, gain = member.score, member.versus_best
        pooled = f"{score.pooled:.4f}"
        if member.pooled_low is not None:
            pooled += f" ({member.pooled_low:.4f} to {member.pooled_high:.4f})"
        rows.append(
            [
                member.name + (" (imported)" if member.imported else ""),
                *score_cells(score)[:2],
                pooled,
                f"{score.fold_low:.4f} to {score.fold_high:.4f}, sd {score.fold_spread:.4f}",
                gain.text() if gain else "best",
                f"{gain.p_value:.3f}" if gain else "",
            ]
        )
    columns = [
        "member",
        f"oof {result.metric}",
        "95% interval",
        "pooled (DeLong, approximate)",
        "folds",
        "against the best (paired)",
        "p",
    ]
    print_table(columns, rows, numeric=columns[1:])
    click.echo(
        f"n {result.members[0].score.n}, {counted(len(result.seeds), 'seed')}, "
        f"{counted(len(result.folds), 'fold')}" + (", resampled by group" if result.grouped else "")
    )
    if len(result.members) > 1:
        click.echo("\nRank correlation (Spearman inside folds)")
        names = [member.name for member in result.members]
        print_table(
            ["", *(str(i + 1) for i in range(len(names)))],
            [
                [f"{i + 1} {name}", *(f"{value:.3f}" for value in line)]
                for i, (name, line) in enumerate(zip(names, result.correlations, strict=True))
            ],
        )
    if result.methods:
        click.echo("\nMethods on nested folds")
        print_methods(result.methods, result.members[0].name)
    if result.disagreements:
        click.echo("\nThey disagree most on")
        print_table(
            ["id", "target", "spread", *(member.name for member in result.members)],
            [
                [
                    row.id,
                    " ".join(map(str, row.targets)),
                    f"{row.spread:.3f}",
                    *(f"{value:.3f}" for value in row.predictions),
                ]
                for row in result.disagreements
            ],
        )
    if result.costs:
        click.echo(f"\nThe ids that cost the members' mean most {result.metric}")
        print_table(
            ["id", "target", "cost", "share", "score without", *(m.name for m in result.members)],
            [
                [
                    row.id,
                    " ".join(map(str, row.targets)),
                    f"{row.cost:.4f}",
                    f"{row.share:.0%}",
                    number(row.without),
                    *(f"{value:.3f}" for value in row.ranks),
                ]
                for row in result.costs
            ],
        )
        click.echo(
            "cost: gained if that id alone were predicted right; score without: the mean's when it and "
            "those above are left out; then its rank in its fold, 1 the most positive. Look at these "
            "films: wrong label, other scanner, or a shortcut that every member takes?"
        )
    for name, reason in result.left_out:
        click.echo(f"left out: {name} {reason}")
    for note in result.notes:
        click.echo(f"note: {note}", err=True)


@click.command("leaderboard")
@click.option("--competition", help="Slug, when runs of several competitions were pulled.")
@click.option(
    "--top", type=click.IntRange(min=0), default=10, show_default=True, help="Places to show."
)
@common_options
def leaderboard(
    competition: str | None, top: int, remote: str | None, profile: str | None, as_json: bool
) -> None:
    """Our place, the medal zone, whether the last gain is noise, and CV against public scores.

    \b
    Examples:
      harness leaderboard
      harness leaderboard --top 50 --remote kaggle
    """
    from harness.commands.leaderboard import leaderboard as run_leaderboard
    from harness.standings import scatter
    from harness.terminal import number, print_json, print_table

    with bench_for(remote, profile) as bench:
        result = run_leaderboard(bench, competition, top)
    if as_json:
        print_json(result)
        return
    deadline = f", deadline {result.info.deadline}" if result.info.deadline else ""
    click.echo(f"{result.competition}: {result.teams} teams{deadline}")
    print_table(
        ["place", "team", "score"],
        [[str(line.rank), line.team, line.score] for line in result.top],
        numeric=["place", "score"],
    )
    if result.our_rank is None:
        click.echo("We have no place yet.")
    else:
        how = "" if result.rank_source == "the service" else f" (by {result.rank_source})"
        zone = {None: "", "none": ", no medal"}.get(result.zone, f", {result.zone} zone")
        click.echo(f"our place: {result.our_rank} of {result.teams}{how}{zone}")
    if result.last_places:
        text = ", ".join(f"{medal} to place {last}" for medal, last in result.last_places.items())
        click.echo(f"medals: {text}")
    if result.submissions:
        click.echo()
        print_table(
            ["submission", "cv", "public", "private", "file"],
            [
                [
                    str(item.ref or "-"),
                    number(item.cv_score),
                    item.public_score or item.status.lower(),
                    item.private_score or "-",
                    item.csv.name,
                ]
                for item in result.submissions
            ],
            numeric=["cv", "public", "private"],
        )
    click.echo()
    if result.noise is not None:
        click.echo(result.noise.text)
    click.echo(result.agreement.text)
    if len(result.points) > 1:
        click.echo("public")
        for line in scatter(result.points):
            click.echo(line)


@click.command("select")
@click.option("--competition", help="Slug, when runs of several competitions were pulled.")
@common_options
def select(competition: str | None, remote: str | None, profile: str | None, as_json: bool) -> None:
    """Propose the final two submissions, with reasons. Public scores are shown, not used.

    The best by nested CV, and the most different one that is not significantly worse. Mark them on
    the competition's page: the service has no call for that.

    \b
    Examples:
      harness select
      harness select --remote kaggle --json
    """
    from harness.commands.select import select as run_select
    from harness.terminal import number, print_json, print_table

    with bench_for(remote, profile) as bench:
        result = run_select(bench, competition)
    if as_json:
        print_json(result)
        return
    print_table(
        ["submission", "nested CV", "against the best", "Spearman to it", "public", "file"],
        [
            [
                str(result.refs[item.label]),
                number(item.cv),
                item.gain_to_best.text() if item.gain_to_best else "-",
                number(item.similarity),
                result.public_scores[item.label] or "-",
                item.label,
            ]
            for item in result.candidates
        ],
        numeric=["nested CV", "Spearman to it", "public"],
    )
    for number_, choice in enumerate(result.choices, 1):
        click.echo(
            f"{number_}. {choice.label} (reference {result.refs[choice.label]}): {choice.reason}"
        )
    if len(result.choices) < 2:
        click.echo(
            "No second one: no other submission is both comparable and not significantly worse."
        )


@click.command("why")
@click.argument("file", metavar="FILE")
@click.option("--all", "every", is_flag=True, help="List every check, not a line for each member.")
@common_options
def why(file: str, every: bool, remote: str | None, profile: str | None, as_json: bool) -> None:
    """Where a submission came from, every hash checked that can be. Exit code 1 when one differs.

    FILE is a submission's CSV, its name, or its reference number.

    \b
    Examples:
      harness why submissions/masked-xray-challenge/2026-01-31-auto-1a2b3c4d.csv
      harness why 12345678 --json
    """
    from harness.commands.why import why as run_why
    from harness.terminal import print_json

    with bench_for(remote, profile) as bench:
        result = run_why(bench, file)
    if as_json:
        print_json(
            {
                "csv": result.csv,
                "sound": result.is_sound,
                "checks": result.checks,
                "record": result.record,
            }
        )
    else:
        print_chain(result.record)
        click.echo()
        print_checks(result.checks, every)
        counts = Counter(check.status for check in result.checks)
        wrong = counts.total() - counts["ok"] - counts["open"] - counts["missing"]
        click.echo(
            f"{counts['ok']} verified, {counts['open']} cannot be checked here, "
            f"{counts['missing']} missing, {wrong} wrong"
        )
    if not result.is_sound:
        raise SystemExit(1)


def print_checks(checks: "Sequence[Check]", every: bool) -> None:
    """Each check; without ``every`` those of a member that are fine are counted in one line."""
    colours = {"ok": "green", "open": "yellow"}
    counted: dict[tuple[str, str], int] = {}
    for check in checks:
        member, separator, _ = check.what.partition(": ")
        if separator and not every and check.status in colours:
            key = (check.status, member)
            counted[key] = counted.get(key, 0) + 1
            continue
        status = click.style(f"{check.status:8}", fg=colours.get(check.status, "red"))
        click.echo(f"{status} {check.what}" + (f": {check.detail}" if check.detail else ""))
    for (name, member), count in sorted(counted.items(), key=lambda item: item[0][::-1]):
        what = "verified" if name == "ok" else "cannot be checked here (not pulled)"
        click.echo(f"{click.style(f'{name:8}', fg=colours[name])} {member}: {count} {what}")


def print_chain(record: dict[str, Any]) -> None:
    """A record from the file back to its sources."""
    file, git = record["file"], record["git"]
    click.echo(f"{file['name']}  {file['rows']} rows, sha256 {file['sha256']}")
    click.echo(
        f"made {record['created_at']} for {record['competition']} by {record['method']}"
        + (
            f" (asked: {record['asked']})"
            if record.get("asked") not in (None, record["method"])
            else ""
        )
        + f", commit {str(git['commit'])[:12]}{' with changes' if git['dirty'] else ''}"
    )
    nested = record["score_nested"]
    click.echo(
        f"nested {nested['mean_fold']:.4f} [{nested['low']:.4f}, {nested['high']:.4f}], n {nested['n']}"
    )
    scheme = record.get("fold_scheme")
    if scheme:
        click.echo(
            f"folds {scheme['folds']} of seeds {scheme['seeds']}; {scheme['nested']}"
            + (f"; {scheme['groups']} groups" if scheme["groups"] else "")
        )
    sent = record.get("submission")
    if sent:
        click.echo(f"submitted as {sent['ref']}: public score {sent['public_score'] or 'unknown'}")
    for member in record["members"]:
        click.echo(f"member {member['run_id']}, weight {member['weight']:.4f}")
        if member.get("kind") == "import":
            click.echo(f"  imported from {member['oof_source']} and {member['test_source']}")
            continue
        click.echo(f"  kernel {member['kernel']}, script {member['script_sha256'][:12]}")
        changes = " with changes" if member["dirty"] else ""
        click.echo(f"  commit {str(member['commit'])[:12]}{changes}")
        for slug, dataset in member["datasets"].items():
            numbered = f" version {dataset['version']}" if dataset.get("version") else ""
            click.echo(f"  input {slug}{numbered}, digest {str(dataset.get('digest'))[:12]}")
    for item in record["dropped"]:
        click.echo(f"not in it: {item['run_id']} {item['reason']}")
    click.echo("with " + ", ".join(f"{k} {v}" for k, v in record["versions"].items()))


@click.command("rebuild")
@click.argument("file", metavar="FILE")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the bytes here.")
@common_options
def rebuild(
    file: str, output: Path | None, remote: str | None, profile: str | None, as_json: bool
) -> None:
    """Make a submission's bytes again from pulled outputs. Exit code 1 when they differ.

    FILE as for `harness why`. A file that is missing is written; one that is there is only compared.

    \b
    Examples:
      harness rebuild 2026-01-31-auto-1a2b3c4d.csv
      harness rebuild 12345678 -o again.csv
    """
    from harness.commands.why import rebuild as run_rebuild
    from harness.terminal import print_json

    with bench_for(remote, profile) as bench:
        result = run_rebuild(bench, file, output)
    if as_json:
        print_json(
            {
                **{name: getattr(result, name) for name in vars(result)},
                "identical": result.is_identical,
            }
        )
    else:
        click.echo(f"recorded  {result.recorded_sha256}  {result.csv.name}")
        click.echo(f"rebuilt   {result.sha256}  {result.output or '(compared only)'}")
        click.echo("identical" if result.is_identical else "DIFFERENT")
        for difference in result.differences:
            click.echo(f"note: {difference}", err=True)
    if not result.is_identical:
        raise SystemExit(1)


@click.command("import")
@click.argument("name")
@click.option("--oof", type=EXISTING_FILE, required=True, help="Out-of-fold predictions.")
@click.option("--test", type=EXISTING_FILE, required=True, help="Test predictions.")
@click.option("--note", default="", help="Where they come from, for the record.")
@click.option("--competition", help="Slug, when runs of several competitions were pulled.")
@common_options
def import_member(
    name: str,
    oof: Path,
    test: Path,
    note: str,
    competition: str | None,
    remote: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Add a member from anywhere: two CSVs with ids and predictions, checked and marked as imported.

    Columns: the id (id, or as the competition calls it) and pred_<target> or <target>. The
    out-of-fold file may also have seed, fold and target_<target>; what it lacks is taken from our
    newest run, what it has must agree with it.

    \b
    Examples:
      harness import teammate --oof their_oof.csv --test their_test.csv
      harness import public-kernel --oof oof.csv --test sub.csv --note "kaggle.com/code/..."
      harness blend-and-submit --runs ssl-cpu-1,teammate
    """
    from harness.commands.import_member import import_member as run_import
    from harness.terminal import print_json

    with bench_for(remote, profile) as bench:
        result = run_import(bench, name, oof, test, competition, note)
    if as_json:
        print_json(result)
        return
    score, member = result.score, result.member
    folds = f"folds of {member.folds_from}" if member.folds_from else "its own folds"
    click.echo(
        f"{name}: {result.rows} rows, {folds}, out-of-fold {score.mean_fold:.4f} "
        f"[{score.low:.4f}, {score.high:.4f}], {score.pooled:.4f} pooled"
    )
    if member.folds_from:
        click.echo(
            "note: that its predictions are out-of-fold for these folds is taken on trust", err=True
        )


BLEND_COMMANDS = (blend_and_submit, compare, leaderboard, select, why, rebuild, import_member)

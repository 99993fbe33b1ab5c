"""``harness results``: a family of strategies side by side, and their test predictions."""

from pathlib import Path

import click


@click.command()
@click.argument("names", nargs=-1, metavar="[STRATEGY...]")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The competition's folder, when the local Kaggle does not have it yet.",
)
@click.option(
    "--seed", "seeds", type=int, multiple=True, help="Fold seed; may be repeated. Default: 1."
)
@click.option("--method", default="auto", show_default=True, help="How the blend is made.")
@click.option("--profile", type=click.Choice(["small", "cpu", "full"]), default="cpu")
@click.option("--markdown", is_flag=True, help="Print the table as the README has it.")
@click.option("--json", "as_json", is_flag=True, help="Print records as JSON.")
def results(
    names: tuple[str, ...],
    data: Path | None,
    seeds: tuple[int, ...],
    method: str,
    profile: str,
    markdown: bool,
    as_json: bool,
) -> None:
    """Train a family of strategies on the local Kaggle, blend them, print one table.

    Without names: linear_probe, levels_probe, ssl, lite0, lite1, lite2. Folds are drawn from seed 1, which
    no recipe was chosen on. Test predictions of every strategy and of the blend stay in submissions/, with
    their records; nothing is submitted. Stopped and run again, it goes on where it was.

    \b
    Examples:
      harness results --data ../xray
      harness results lite0 linear_probe --data ../xray --markdown
      harness results --profile small --data ../xray
    """
    from harness.commands.results import CPU_FAMILY, as_markdown, join_data
    from harness.commands.results import results as run_results
    from harness.settings import load_settings
    from harness.terminal import log_line, number, print_json, print_table, progress
    from harness.workbench import open_workbench

    settings = load_settings(remote="local", profile=profile)
    chosen = names or CPU_FAMILY
    join_data(settings, chosen[0], data)
    with open_workbench(settings, progress) as bench:
        found = run_results(
            bench,
            chosen,
            profile,
            tuple(sorted(set(seeds))) or (1,),
            method,
            lambda run, line: log_line(run.spec.strategy, line),
        )
    if as_json:
        print_json(found)
        return
    if markdown:
        click.echo(as_markdown(found))
        return
    columns = ["strategy", "trained on", f"oof {found.metric}", "95% interval", "pooled", "n", "gain", "s"]  # fmt: skip
    rows = [
        [
            row.name,
            row.trained_on,
            number(row.score.mean_fold),
            f"{row.score.low:.4f} to {row.score.high:.4f}",
            number(row.score.pooled),
            str(row.score.n),
            row.gain.text() if row.gain else "",
            f"{row.seconds:.0f}" if row.seconds else "",
        ]
        for row in found.rows
    ]
    print_table(columns, rows)
    for line in (*found.shortcuts, *found.explanation):
        click.echo(line)
    for name, reason in found.dropped:
        click.echo(f"Not in the blend: {name} {reason}.")
    for row in found.rows:
        click.echo(f"{row.name}: {row.csv}")
    members = ",".join(row.run_id for row in found.rows if row.run_id)
    click.echo(
        f"Side by side, with the ids that cost most: harness compare --profile {profile} --runs {members}"
    )

"""The command line of the report: parse, call, print."""

from pathlib import Path

import click

from harness.cli_common import bench_for, common_options


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the file.",
)
@click.option("--open", "open_it", is_flag=True, help="Show it in the browser.")
@click.option("--competition", help="Only this competition; by default all that have runs.")
@click.option(
    "--pictures/--no-pictures", default=True, help="Embed films, Grad-CAM maps and neighbour pairs."
)
@common_options
def report(
    output: Path | None,
    open_it: bool,
    competition: str | None,
    pictures: bool,
    remote: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Write everything known about the runs as one HTML file: scores, curves, blends, pictures.

    The file needs nothing else, no network either; it can be sent to a colleague as it is. It shows
    films of the competition unless --no-pictures is given: mind whose eyes its rules allow.

    \b
    Examples:
      harness report --open
      harness report -o report.html --no-pictures
      harness report --json
    """
    from harness.commands.report import write_report
    from harness.terminal import print_json

    with bench_for(remote, profile) as bench:
        written = write_report(bench, output, competition, pictures=pictures)
    if as_json:
        print_json(written)
    else:
        click.echo(
            f"{written.path}: {written.runs} runs, {written.bytes / 1e6:.1f} MB, {written.seconds:.1f} s"
        )
        if not written.runs:
            click.echo("There is nothing in it yet. Start with: harness push STRATEGY", err=True)
        for note in written.notes:
            click.echo(f"note: {note}", err=True)
    if open_it and click.launch(written.path.as_uri()) != 0:
        click.echo("No browser could be started; open the file yourself.", err=True)


REPORT_COMMANDS = (report,)

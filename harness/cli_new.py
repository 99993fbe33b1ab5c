"""The command line of beginnings: a workspace, a competition, a strategy, drawn data."""

from pathlib import Path

import click

from harness.cli_common import bench_for, common_options, complete_strategies
from harness.cli_local import Ordered
from harness.errors import ConfigError

KINDS = ("xray", "lines", "classes")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--json", "as_json", is_flag=True, help="Print records as JSON.")
def init(folder: Path, as_json: bool) -> None:
    """Make a folder a workspace: a copy of kernels/ to change, and pyproject.toml for settings.

    \b
    Examples:
      harness init
      harness init my-competition
    """
    from harness.commands.init import init as run_init
    from harness.terminal import print_json

    made = run_init(folder)
    if as_json:
        print_json(made)
        return
    click.echo(f"{made.workspace}: {', '.join(made.files)}")
    click.echo("Next: harness demo, or: harness new competition NAME --from FOLDER")


@click.group(cls=Ordered)
def new() -> None:
    """Begin a competition or a strategy: a working file with comments, and a test.

    \b
    Examples:
      harness new competition lines --from ../lines-on-films
      harness new strategy lines_probe --like linear_probe --competition lines
    """


@new.command("competition")
@click.argument("name")
@click.option(
    "--from", "source", metavar="FOLDER|SLUG", help="Read columns and folders off the data."
)
@click.option(
    "--metric", help="By default auc, macro_auc or multiclass_log_loss, as the targets are."
)
@common_options
def new_competition(
    name: str,
    source: str | None,
    metric: str | None,
    remote: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Write kernels/competitions/NAME.py and its test.

    With --from, the sample submission names id and targets, and the file is tried on the data.

    \b
    Examples:
      harness new competition lines --from ../lines-on-films
      harness new competition cats --from cats-and-dogs --remote kaggle
      harness new competition mine --metric log_loss
    """
    from harness.commands.new import new_competition as run_new
    from harness.terminal import print_json

    with bench_for(remote, profile) as bench:
        made = run_new(bench, name, source, metric)
        if as_json:
            print_json(made)
            return
        facts = made.facts
        for path in (made.path, made.test):
            click.echo(f"wrote {path.relative_to(bench.settings.workspace)}")
        counts = ", ".join(
            f"{facts[key]} {key}" for key in ("labelled", "test", "unlabelled") if key in facts
        )
        click.echo(
            f"{facts['slug']}: {len(facts['targets'])} targets, scored by {facts['metric']}"
            + (f"; {counts} images" if counts else "")
        )
        for note in made.notes:
            click.echo(f"note: {note}", err=True)
        folder = source if source and Path(source).is_dir() else "FOLDER"
        click.echo(
            "Next:\n"
            f"  harness local competition add {folder} --slug {facts['slug']} --solution ANSWERS.csv\n"
            f"  harness new strategy {name}_probe --like linear_probe --competition {name}\n"
            f"  harness push {name}_probe && harness watch --follow && harness pull && harness blend-and-submit"
        )


@new.command("strategy")
@click.argument("name")
@click.option(
    "--like",
    required=True,
    metavar="STRATEGY",
    shell_complete=complete_strategies,
    help="What it begins as.",
)
@click.option("--competition", help="Whose data it trains on; by default that of --like.")
@common_options
def new_strategy(
    name: str,
    like: str,
    competition: str | None,
    remote: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Write kernels/strategies/NAME.py and its test.

    \b
    Examples:
      harness new strategy big_films --like effnetv2_s
      harness new strategy lines_probe --like linear_probe --competition lines
    """
    from harness.commands.new import new_strategy as run_new
    from harness.terminal import print_json

    with bench_for(remote, profile) as bench:
        made = run_new(bench, name, like, competition)
        if as_json:
            print_json(made)
            return
        for path in (made.path, made.test):
            click.echo(f"wrote {path.relative_to(bench.settings.workspace)}")
        click.echo(f"Next: harness dry-run {name}")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("drawn"))
@click.option("--seed", type=int, default=7, show_default=True)
@click.option(
    "--labelled", type=click.IntRange(20), default=200, show_default=True, help="Labelled films."
)
@click.option("--json", "as_json", is_flag=True, help="Print records as JSON.")
def draw(kind: str, folder: Path, seed: int, labelled: int, as_json: bool) -> None:
    """Draw a competition to practise on: films of no person, made from a seed.

    xray: one target, AUC. lines: five targets that occur together, macro AUC. classes: one of
    three, log loss. The answers lie beside the data.

    \b
    Examples:
      harness draw lines
      harness draw classes ../practice --labelled 400
    """
    try:
        from harness.synthetic import draw_competition
        from harness.synthetic_kinds import draw_classes_competition, draw_lines_competition
    except ImportError as error:
        raise ConfigError(
            f"Drawing needs {error.name}.",
            "Install with: pip install 'kaggle-kernel-harness[local]'",
        ) from error
    from harness.terminal import print_json, progress

    progress(f"drawing {labelled + labelled // 2} films")
    try:
        if kind == "xray":
            drawn = draw_competition(folder, seed, labelled // 2, labelled, labelled // 2)
        elif kind == "lines":
            drawn = draw_lines_competition(folder, seed, labelled, labelled // 2)
        else:
            drawn = draw_classes_competition(folder, seed, labelled, labelled // 2)
    except FileExistsError as error:
        raise ConfigError(f"{error.filename} exists already.", "Choose another folder.") from error
    if as_json:
        print_json({"slug": drawn.slug, "data": drawn.data_folder, "solution": drawn.solution_csv})
        return
    click.echo(f"data: {drawn.data_folder}\nanswers: {drawn.solution_csv}")


NEW_COMMANDS = (init, new, draw)

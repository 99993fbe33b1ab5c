"""The command line of the plan: parse, call, print."""

import click

from harness.cli_common import bench_for, common_options, complete_strategies


@click.command()
@click.argument("names", nargs=-1, metavar="[STRATEGY]...", shell_complete=complete_strategies)
@click.option("--deadline", help="36h, 2d, or an ISO time in UTC.")
@click.option(
    "--quota", type=click.FloatRange(0), help="GPU hours of a week; by default Kaggle's 30."
)
@click.option("--images", type=click.IntRange(1), help="Labelled images, for scaling a dry run.")
@common_options
def plan(
    names: tuple[str, ...],
    deadline: str | None,
    quota: float | None,
    images: int | None,
    remote: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Predict GPU hours, whether they fit into the week's quota, and what is ready before a deadline.

    Hours are those of past runs, else those of a dry run scaled by assumptions that are printed, else
    unknown. Without names: all strategies of a blend that have not finished yet.

    \b
    Examples:
      harness plan --remote kaggle
      harness plan effnetv2_s convnext_s ssl --remote kaggle --deadline 36h
      harness plan --deadline 2026-12-01T23:59 --json
    """
    from harness.commands.plan import plan as run_plan
    from harness.terminal import number, print_json, print_table, wrapped

    with bench_for(remote, profile) as bench:
        made = run_plan(bench, names, deadline, quota, images)
    if as_json:
        print_json(made)
        return
    rows = []
    for item in made.items:
        ready = "-" if item.end is None else f"in {item.end:.1f} h"
        late = "" if item.in_time is None else "yes" if item.in_time else "no"
        why = f"{item.source}: {item.why}" + (f"; {item.note}" if item.note else "")
        rows.append(
            [
                item.name,
                item.accelerator,
                number(item.hours, 2),
                number(item.start, 1),
                ready,
                late,
                why,
            ]
        )
    if rows:
        columns = ["strategy", "on", "hours", "starts at h", "ready", "in time", "hours from"]
        print_table(columns, rows, numeric=["hours", "starts at h"])
    if made.done:
        click.echo(f"Finished already: {', '.join(made.done)}")
    wrapped(
        f"GPU quota: {made.used_hours:.1f} h used, {made.planned_hours:.1f} h planned of "
        f"{made.quota_hours:g} h a week"
        + ("" if made.fits else ": more than this week has")
        + f"; it starts anew in {made.reset:.0f} h. Two GPU sessions run at a time.",
        indent=2,
    )
    if made.unknown:
        wrapped(f"Unknown, and not counted: {', '.join(made.unknown)}", indent=2)
    for text in made.assumptions:
        wrapped(f"Assumed, {text}", indent=2)


PLAN_COMMANDS = (plan,)

"""The command line: parse, call, print. Every verb is in harness/commands; nothing is decided here.

Imports are inside the commands, so that ``harness --help`` loads neither torch, pandas nor kaggle.
"""

import contextlib
import difflib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import __version__
from harness.cli_blend import BLEND_COMMANDS
from harness.cli_chain import (
    CHAIN_COMMANDS,
    InferenceOptions,
    check_inference_words,
    inference_options,
    push_inference_kernel,
)
from harness.cli_common import bench_for, bundle_option, common_options, complete_strategies
from harness.cli_doctor import DOCTOR_COMMANDS
from harness.cli_local import Ordered, local
from harness.cli_new import NEW_COMMANDS
from harness.cli_packages import PACKAGE_COMMANDS
from harness.cli_plan import PLAN_COMMANDS
from harness.cli_report import REPORT_COMMANDS
from harness.cli_results import results
from harness.cli_verify import verify
from harness.errors import ConfigError, HarnessError, machine_fault

if TYPE_CHECKING:
    from harness.commands.push import PushResult
    from harness.records import Run, RunSpec
    from harness.settings import Settings
    from harness.workbench import Workbench


# What --help lists under which heading; a command that is named nowhere comes last.
SECTIONS = {
    "Begin": ("demo", "init", "new", "draw", "doctor", "completion"),
    "The loop": (
        "strategies", "plan", "check", "dry-run", "render", "push", "watch", "pull", "blend-and-submit",
        "tick", "queue", "status", "runs",
    ),
    "Scores and submissions": (
        "compare", "leaderboard", "select", "why", "rebuild", "verify", "import", "results", "report",
    ),
    "Datasets and models": ("package", "weights", "wheels", "publish"),
    "The local Kaggle": ("local",),
}  # fmt: skip


class Program(Ordered):
    """Errors that a user can put right become one line and exit code 1; so does Ctrl-C."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of SECTIONS."""
        named = [name for names in SECTIONS.values() for name in names if name in self.commands]
        return [*named, *(name for name in super().list_commands(ctx) if name not in named)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A heading for each section, and a line for each command."""
        left = self.list_commands(ctx)
        for heading, names in (*SECTIONS.items(), ("More", tuple(left))):
            shown = [name for name in names if name in left]
            left = [name for name in left if name not in shown]
            if shown:
                wide = max(map(len, self.commands))
                room = formatter.width - wide - 6
                with formatter.section(heading):
                    formatter.write_dl(
                        [
                            (name.ljust(wide), self.commands[name].get_short_help_str(room))
                            for name in shown
                        ]
                    )

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; see the class."""
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except HarnessError as error:
            from harness.terminal import plain

            click.echo(
                f"{click.style('error:', fg='red', bold=True)} {plain(str(error))}", err=True
            )
            ctx.exit(1)
        except ImportError as error:
            # The workspace's kernels/ is imported by name: one of another version may lack something.
            if not (error.name or "").startswith("kernels"):
                raise
            if error.name == "kernels":  # there is none: not a matter of versions
                click.echo(
                    f"{click.style('error:', fg='red', bold=True)} {no_workspace()}", err=True
                )
                ctx.exit(1)
            click.echo(
                f"{click.style('error:', fg='red', bold=True)} The kernels/ folder of this workspace does "
                f"not fit this harness ({error}). Bring it to version {__version__}, or run the harness "
                "that belongs to it.",
                err=True,
            )
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo(
                "\nInterrupted. Pushed kernels run on; run the same command again to go on from here "
                "(a demo or a dry run starts anew).",
                err=True,
            )
            ctx.exit(130)
        except BrokenPipeError:
            # The reader (head, less) has seen enough.
            sys.stderr.close()
            ctx.exit(0)
        except Exception as error:
            fault = machine_fault(error)
            if fault is None:
                raise
            click.echo(f"{click.style('error:', fg='red', bold=True)} {fault}", err=True)
            ctx.exit(1)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a guess for an unknown command."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if near and "Did you mean" not in error.format_message():  # newer click guesses itself
                raise click.UsageError(
                    f"{error.format_message()} Did you mean {near[0]!r}?", ctx
                ) from None
            raise


def parse_overrides(pairs: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
    """``key=value`` with Python values: epochs=3, train.optim.lr=1e-4, clahe=False, backbone=name."""
    import ast

    found = []
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set {pair!r} is not key=value.", "For example: --set epochs=3")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = {"true": True, "false": False, "none": None}.get(text.lower(), text)
        if isinstance(value, list):
            value = tuple(value)
        found.append((key, value))
    return tuple(sorted(found))


def parse_spec(
    settings: "Settings",
    name: str,
    variant: str,
    overrides: tuple[str, ...],
    folds: tuple[int, ...],
    seeds: tuple[int, ...],
    tag: str,
    notebook: bool,
) -> "RunSpec":
    """A run's spec from the options of push, render and dry-run."""
    from harness.records import RESERVED_TAG, RunSpec, slugify
    from harness.settings import choose_profile

    if tag and slugify(tag) != tag:
        raise ConfigError(f"Tag {tag!r} cannot be part of a slug.", f"Try: --tag {slugify(tag)}")
    if RESERVED_TAG.match(tag):
        raise ConfigError(
            f"Tag {tag!r} begins like a part of a slug that harness makes itself.",
            f"Try: --tag my-{tag}",
        )
    profile, _ = choose_profile(settings)
    return RunSpec(
        strategy=name,
        variant=variant,
        profile=profile,
        overrides=parse_overrides(overrides),
        folds=tuple(sorted(set(folds))) or None,
        seeds=tuple(sorted(set(seeds))) or None,
        tag=tag,
        notebook=notebook,
    )


def spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that make a run's spec."""
    for option in (
        bundle_option,
        click.option("--notebook", is_flag=True, help="As a notebook, a cell for each module."),
        click.option("--tag", default="", help="Name this experiment; part of the kernel's slug."),
        click.option(
            "--seed", "seeds", type=int, multiple=True, help="Fold seed; may be repeated."
        ),
        click.option(
            "--fold",
            "folds",
            type=int,
            multiple=True,
            help="Train this fold only; may be repeated.",
        ),
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a config field."
        ),
        click.option(
            "--variant", default="default", help="as-written: the write-up's exact settings."
        ),
    ):
        command = option(command)
    return command


@click.group(
    cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="harness")
@click.option("-v", "--verbose", is_flag=True, help="Tell about retries and waits.")
def main(verbose: bool) -> None:
    """Train image models as Kaggle kernels, blend them by validation AUC, submit.

    \b
    The loop:
      harness push linear_probe ssl effnetv2_s
      harness watch --follow
      harness pull
      harness blend-and-submit

    Without an account everything runs on a local Kaggle on this machine; see it at work with
    `harness demo`. Use --remote kaggle for the real one.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO if verbose else logging.WARNING, format="%(message)s"
    )
    use_workspace()


def use_workspace() -> None:
    """Make the kernels package of the workspace around the working directory the importable one.

    Before any command's own imports: they name it. Where there is none, the command says so itself.
    """
    from harness.settings import activate_workspace, find_workspace

    with contextlib.suppress(ConfigError, OSError):
        activate_workspace(find_workspace(Path.cwd()))


def no_workspace() -> str:
    """What is to be said where there is no workspace."""
    from harness.settings import find_workspace

    try:
        return f"{find_workspace(Path.cwd())} has no kernels package that can be imported."
    except (ConfigError, OSError) as error:
        return str(error)


@main.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="A competition's folder: train/, val/, val.csv, test/, sample_submission.csv.",
)
@click.option("--solution", type=click.Path(path_type=Path), help="Private answers for --data.")
@click.option(
    "--strategy", "strategies", multiple=True, help="Instead of the usual three; may be repeated."
)
@click.option("--json", "as_json", is_flag=True, help="Print records as JSON.")
@click.option(
    "--profile", type=click.Choice(["small", "cpu", "full"]), help="small for drawn data, else cpu."
)
def demo(
    data: Path | None,
    solution: Path | None,
    strategies: tuple[str, ...],
    as_json: bool,
    profile: str | None,
) -> None:
    """See the whole loop at work, offline: draw data, push, run, pull, blend, submit, score.

    \b
    Examples:
      harness demo
      harness demo --data ../xray --profile cpu
      harness demo --data ../xray --solution answers.csv --strategy features_lr
    """
    if not any(Path.cwd().iterdir()):
        from harness.commands.init import init as run_init

        run_init(Path.cwd())
        use_workspace()
        click.echo("This folder is empty: made it a workspace.", err=True)
    from harness.commands.demo import DEMO_STRATEGIES, check_strategies
    from harness.commands.demo import demo as run_demo
    from harness.settings import load_settings
    from harness.terminal import log_line, print_json, progress

    settings = load_settings(remote="local", profile=profile)
    names = strategies or DEMO_STRATEGIES
    check_strategies(settings, names)
    chosen = settings.profile or ("cpu" if data else "small")
    if solution is not None and data is None:
        raise ConfigError("--solution needs --data.", "The drawn competition brings its own.")
    for path in (data, solution):
        if path is not None and not path.exists():
            raise ConfigError(f"{path} does not exist.")
    result = run_demo(
        settings,
        chosen,
        names,
        data,
        solution,
        progress,
        lambda run, line: log_line(run.spec.strategy, line),
    )
    if as_json:
        print_json(
            {
                "rows": result.rows,
                "blend": {"score": result.blend.blend.score, "members": result.blend.blend.members},
                "submission": result.blend.submission,
                "csv": result.blend.csv,
                "folder": result.folder,
                "report": result.report,
                "seconds": result.seconds,
            }
        )
        return
    print_demo(result, chosen)


def print_demo(result: Any, profile: str) -> None:
    """The demo's table and what to type next."""
    import shutil

    from harness.terminal import number, print_aligned

    def cells(name: str, trained: str, score: Any, seconds: str, submission: Any) -> list[str]:
        public = submission.public_score or "not scored"
        interval = f"{score.low:.4f} to {score.high:.4f}"
        return [
            name,
            trained,
            number(score.mean_fold),
            interval,
            number(score.pooled),
            str(score.n),
            seconds,
            public,
        ]

    rows = [
        cells(row.strategy, row.backbone, row.score, f"{row.seconds:.0f}", row.submission)
        for row in result.rows
    ]
    blend = result.blend.blend
    rows.append(
        cells(
            f"blend of {len(blend.members)}",
            blend.method,
            blend.score,
            f"{result.seconds:.0f}",
            result.blend.submission,
        )
    )
    click.echo()
    columns = [
        "strategy",
        "trained on",
        "oof AUC",
        "95% interval",
        "pooled",
        "n",
        "seconds",
        "public score",
    ]
    print_aligned(columns, rows)
    click.echo()
    if len(blend.members) > 1:
        click.echo(f"Gain of the blend over {blend.best.run_id}: {blend.versus_best.text()}.")
    for run_id, reason in blend.dropped:
        click.echo(f"Not in the blend: {run_id} {reason}.")
    for warning in result.blend.warnings:
        click.echo(f"Note: {warning}.")
    reason = result.blend.submission.error
    if not result.blend.submission.public_score and reason:
        click.echo(f"The leaderboard says: {reason}.")
    click.echo(
        f"oof AUC: mean over folds, profile {profile}. The blend's is nested: its weights were fitted on "
        "other folds."
    )
    click.echo(f"Submission: {result.blend.csv}\nEverything else: {result.folder}")
    if result.report is not None:
        click.echo(f"Look at it in a browser: {result.report}")
    click.echo(
        "\nNext, with your own data (docs/tutorial.md):\n"
        "  harness local competition add FOLDER\n"
        "  harness push linear_probe effnetv2_s && harness watch --follow\n"
        "  harness pull && harness blend-and-submit\n"
        "On Kaggle itself: add --remote kaggle (docs/how-to/kaggle.md)."
    )
    if shutil.which("harness") is None:
        program = Path(sys.executable).with_name("harness")
        click.echo(
            f"\nThe shell does not find harness by name yet: it is {program}, or by name after\n"
            f"  source {program.with_name('activate')}"
        )


@main.command()
@common_options
def strategies(remote: str | None, profile: str | None, as_json: bool) -> None:
    """List what can be pushed: backbone, image size, accelerator, hours.

    \b
    Examples:
      harness strategies
      harness strategies --profile cpu
    """
    from harness.registry import load_strategies
    from harness.render import backbone_of
    from harness.settings import choose_profile, load_settings
    from harness.terminal import print_json, print_table

    settings = load_settings(remote=remote, profile=profile)
    chosen, _ = choose_profile(settings)
    rows = []
    for item in load_strategies(settings.workspace):
        config = item.profiles.pick(chosen)
        rows.append(
            {
                "strategy": item.name,
                "title": item.title,
                "competition": item.competition,
                "pipeline": item.pipeline,
                "profile": chosen,
                "backbone": backbone_of(config) or "-",
                "image_size": getattr(config, "image_size", None),
                "accelerator": item.accelerator if chosen == "full" else "cpu",
                "hours": item.hours,
            }
        )
    if as_json:
        print_json(rows)
        return
    columns = ["strategy", "backbone", "image_size", "accelerator", "hours", "title"]
    print_table(columns, [[str(row[name]) for name in columns] for row in rows])


@main.command()
@click.argument("names", nargs=-1, metavar="STRATEGY...", shell_complete=complete_strategies)
@click.option("--all", "all_", is_flag=True, help="Every strategy of the workspace.")
@click.option("--force", is_flag=True, help="Start a new version of what runs or has run already.")
@inference_options
@spec_options
@common_options
def push(
    names: tuple[str, ...],
    all_: bool,
    force: bool,
    inference: str | None,
    rehearse: bool,
    submit: bool,
    hidden_rows: int | None,
    competition: str | None,
    message: str,
    yes: bool,
    variant: str,
    overrides: tuple[str, ...],
    folds: tuple[int, ...],
    seeds: tuple[int, ...],
    tag: str,
    notebook: bool,
    remote: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Render strategies, make their datasets current, start their kernels.

    The same bytes are never started twice unless asked with --force. A strategy that starts from another
    one's run brings that along and is queued until it has ended; so is what finds no free session.

    With --inference a blend becomes one kernel for a code competition: without internet it mounts the
    outputs of the members' kernels, checks their hashes, and predicts whatever test it is shown. It is
    rehearsed here first; --submit waits for it, submits that version and shows the score.

    \b
    Examples:
      harness push ssl
      harness push linear_probe effnetv2_s --profile small
      harness push effnetv2_s --set train.epochs=12 --tag longer
      harness push ssl --fold 0 --seed 1
      harness push ssl_finetune && harness tick --follow
      harness push --all --remote kaggle
      harness push --inference --submit --hidden-rows 20000
      harness push --inference 2026-11-25-rank-mean-1a2b3c4d
    """
    settings_named = variant != "default" or any([overrides, folds, seeds, tag, notebook])
    alone = [submit, not rehearse, hidden_rows, competition, message, yes]
    check_inference_words(inference, any(alone), bool(names or all_), settings_named)
    if inference is not None:
        push_inference_kernel(
            InferenceOptions(
                inference or None, rehearse, submit, hidden_rows, competition, message, yes, force
            ),
            remote,
            profile,
            as_json,
        )
        return
    from harness.commands.push import PushResult, Waiting, pushable
    from harness.commands.push import push as run_push
    from harness.settings import choose_profile
    from harness.terminal import print_json

    with bench_for(remote, profile) as bench:
        if all_:
            names, elsewhere = pushable(bench)
            for name, slug in elsewhere:
                click.echo(f"left out: {name}, the remote has no competition {slug}", err=True)
        if not names:
            raise ConfigError(
                "Name a strategy, or use --all.", "List them with: harness strategies"
            )
        chosen, why = choose_profile(bench.settings)
        click.echo(f"remote {bench.settings.remote}, profile {chosen} ({why})", err=True)
        specs = [
            parse_spec(bench.settings, name, variant, overrides, folds, seeds, tag, notebook)
            for name in dict.fromkeys(names)
        ]
        results: list[PushResult | Waiting] = []

        def pushed(result: PushResult | Waiting) -> None:
            results.append(result)
            if as_json:
                return
            if isinstance(result, Waiting):
                click.echo(f"{result.queued.spec.label()}: queued. {result.queued.reason}")
            else:
                print_push(result, bench.settings.remote)

        try:
            run_push(bench, specs, force, pushed)
        finally:
            if as_json:
                print_json(results)
        if as_json:
            return
        ran = [result for result in results if isinstance(result, PushResult)]
        if len(ran) < len(results):
            step = "harness tick --follow (pushes what is queued as soon as it can start)"
        elif any(not result.run.state.is_final for result in ran):
            step = "harness watch --follow"
        else:
            step = "harness pull, or --force to run the same again"
        click.echo(f"Next: {step}", err=True)


def print_push(result: "PushResult", remote: str) -> None:
    """What became of one strategy."""
    import shlex

    run = result.run
    what = f"already there ({run.state.lower()})" if result.already_there else "pushed"
    click.echo(f"{run.run_id}: {what} as {run.kernel}, digest {run.digest[:12]}")
    for warning in result.warnings:
        click.echo(f"  note: {warning}", err=True)
    if result.rehearsed_at:
        click.echo(f"  these bytes passed a dry run at {result.rehearsed_at}", err=True)
    elif not result.already_there and remote == "kaggle":
        spec = run.spec
        words = ["harness", "dry-run", spec.strategy, "--remote", remote, "--profile", spec.profile]
        words += ["--variant", spec.variant] if spec.variant != "default" else []
        words += [f"--set={name}={value!r}" for name, value in spec.overrides]
        words += [f"--fold={fold}" for fold in spec.folds or ()]
        words += [f"--seed={seed}" for seed in spec.seeds or ()]
        words += [f"--tag={spec.tag}"] if spec.tag else []
        click.echo(f"  not rehearsed yet; next time first: {shlex.join(words)}", err=True)


@main.command()
@click.option("--follow", is_flag=True, help="Go on until every run has ended.")
@click.option(
    "--logs/--no-logs", default=True, help="With --follow: show lines of running kernels' logs."
)
@common_options
def watch(follow: bool, logs: bool, remote: str | None, profile: str | None, as_json: bool) -> None:
    """Show the state of every open run, a line each.

    \b
    Examples:
      harness watch
      harness watch --follow
      harness watch --follow --no-logs
    """
    from harness.commands.watch import follow as run_follow
    from harness.commands.watch import refresh
    from harness.terminal import print_json

    with bench_for(remote, profile) as bench:
        if follow:
            runs = run_follow(
                bench,
                (lambda _: None) if as_json else print_state,
                run_logger(bench) if logs else None,
            )
        else:
            runs = refresh(bench)
            if not as_json:
                for run in runs:
                    print_state(run)
        if as_json:
            print_json(runs)
        elif not runs:
            click.echo("No open runs. Where things stand: harness status")
        elif all(run.state.is_final for run in runs):
            click.echo("Next: harness pull", err=True)


def run_logger(bench: "Workbench") -> "Callable[[Run, str], None]":
    """Shows log lines of running kernels; behind an epoch's line stands how long the run will go on."""
    from harness.commands.watch import models_of_spec
    from harness.eta import EpochClock
    from harness.terminal import log_line

    clocks: dict[str, EpochClock] = {}

    def show(run: "Run", line: str) -> None:
        if run.run_id not in clocks:
            clocks[run.run_id] = EpochClock(models_of_spec(bench.settings.workspace, run.spec))
        log_line(run.run_id, clocks[run.run_id].annotate(line))

    return show


def state_text(run: "Run") -> str:
    """A run's state in a word or two: unfinished, error (out of memory)."""
    if run.unfinished is not None:
        return "unfinished"
    return run.state.lower() + (f" ({run.failure_kind})" if run.failure_kind else "")


def print_state(run: "Run") -> None:
    """One line about a run."""
    line = f"{run.run_id}: {state_text(run)}  {run.kernel}"
    click.echo(line + (f"  {run.failure}" if run.failure else ""))


@main.command()
@click.argument("names", nargs=-1, metavar="[STRATEGY|RUN]...", shell_complete=complete_strategies)
@click.option("--checkpoints", is_flag=True, help="Fetch model checkpoints too.")
@common_options
def pull(
    names: tuple[str, ...],
    checkpoints: bool,
    remote: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Fetch what finished runs wrote and check every file against its hash.

    \b
    Examples:
      harness pull
      harness pull ssl --checkpoints
    """
    from harness.commands.pull import pull as run_pull
    from harness.commands.pull import runs_to_pull
    from harness.commands.watch import refresh
    from harness.registry import did_you_mean
    from harness.terminal import number, print_json

    with bench_for(remote, profile) as bench:
        refresh(bench)
        runs = runs_to_pull(bench, names, checkpoints)
        for name in names:
            if not any(name in (run.spec.strategy, run.run_id) for run in runs):
                known = bench.ledger.runs(bench.settings.remote)
                if not any(name in (run.spec.strategy, run.run_id) for run in known):
                    raise did_you_mean(
                        "run or strategy", name, sorted({r.spec.strategy for r in known})
                    )
                raise ConfigError(
                    f"No run of {name!r} has finished.", "Wait with: harness watch --follow"
                )
        results = run_pull(bench, runs, checkpoints)
        if as_json:
            print_json(
                [
                    {
                        "run": r.run,
                        "files": r.files,
                        "bytes": r.bytes,
                        "error": str(r.error or "") or None,
                    }
                    for r in results
                ]
            )
        else:
            for result in results:
                run = result.run
                if result.error is None and run.unfinished is not None:
                    click.echo(f"{run.run_id}: unfinished, {run.unfinished}")
                elif result.error is None:
                    click.echo(
                        f"{run.run_id}: {result.files} files, {result.bytes / 1e6:.1f} MB, verified; "
                        f"out-of-fold {number(run.score_mean_fold)} (mean over folds), "
                        f"{number(run.score_pooled)} pooled"
                    )
            still = bench.ledger.open_runs(bench.settings.remote)
            if not results:
                if not bench.ledger.runs(bench.settings.remote):
                    click.echo(
                        "Nothing new to pull: there are no runs yet. Start with: harness push STRATEGY"
                    )
                else:
                    open_ = f" {len(still)} runs are still open." if still else ""
                    click.echo(f"Nothing new to pull.{open_}")
        failed = [result.error for result in results if result.error is not None]
        for error in failed[:-1]:
            click.echo(f"error: {error}", err=True)
        if failed:
            raise failed[-1]


@main.command("dry-run")
@click.argument("name", metavar="STRATEGY", shell_complete=complete_strategies)
@spec_options
@common_options
def dry_run(
    name: str,
    variant: str,
    overrides: tuple[str, ...],
    folds: tuple[int, ...],
    seeds: tuple[int, ...],
    tag: str,
    notebook: bool,
    remote: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Rehearse the exact bytes that push would send, here, in the small profile.

    Push says whether the bytes it sends have passed.

    \b
    Examples:
      harness dry-run ssl
      harness dry-run effnetv2_s --profile full --set train.epochs=30
    """
    from harness.commands.dry_run import dry_run as run_dry
    from harness.terminal import log_line, print_json

    with bench_for(remote, profile) as bench:
        spec = parse_spec(bench.settings, name, variant, overrides, folds, seeds, tag, notebook)
        result = run_dry(bench, spec, lambda line: log_line(name, line))
        if as_json:
            print_json(
                {
                    "digest": result.build.digest,
                    "script_sha256": result.build.script_sha256,
                    "folder": result.folder,
                    "seconds": result.seconds,
                    "score_mean_fold": result.score_mean_fold,
                    "drawn_data": result.drawn_data,
                }
            )
            return
        click.echo(
            f"passed for digest {result.build.digest[:12]} in {result.seconds:.0f} s "
            f"({'drawn data' if result.drawn_data else 'the competition data'}); outputs: {result.folder}"
        )
        if spec.overrides:
            click.echo(
                f"note: --set changed the {spec.profile} profile, which a rehearsal in the small one "
                "renders but does not run",
                err=True,
            )


@main.command()
@click.argument("name", metavar="STRATEGY", shell_complete=complete_strategies)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A folder for script and metadata."
)
@spec_options
@common_options
def render(
    name: str,
    output: Path | None,
    variant: str,
    overrides: tuple[str, ...],
    folds: tuple[int, ...],
    seeds: tuple[int, ...],
    tag: str,
    notebook: bool,
    remote: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Write the script that a push would send (to stdout, or with its metadata to a folder).

    \b
    Examples:
      harness render ssl > ssl.py
      harness render effnetv2_s --profile full -o build/
      harness render linear_probe --notebook > linear_probe.ipynb
    """
    import json

    from harness.commands.push import prepare
    from harness.terminal import print_json

    with bench_for(remote, profile) as bench:
        build = prepare(
            bench, parse_spec(bench.settings, name, variant, overrides, folds, seeds, tag, notebook)
        ).build
        if output is not None:
            metadata = json.dumps(build.metadata, indent=2) + "\n"
            try:
                output.mkdir(parents=True, exist_ok=True)
                (output / build.metadata["code_file"]).write_text(build.source, "utf-8")
                (output / "kernel-metadata.json").write_text(metadata, "utf-8")
            except OSError as error:
                raise ConfigError(
                    f"{output} cannot be written: {error.strerror}.", "Name a folder with -o."
                ) from error
        if as_json:
            print_json(build)
        elif output is None:
            click.echo(build.source, nl=False)
        else:
            click.echo(
                f"{output / build.metadata['code_file']}: {len(build.source.encode()):,} bytes, digest {build.digest[:12]}"
            )


@main.command()
@common_options
def runs(remote: str | None, profile: str | None, as_json: bool) -> None:
    """List every run in the ledger, oldest first.

    \b
    Examples:
      harness runs
      harness runs --json
    """
    from harness.terminal import number, print_json, print_table

    with bench_for(remote, profile) as bench:
        found = bench.ledger.runs(bench.settings.remote)
        if as_json:
            print_json(found)
            return
        if not found:
            click.echo("No runs yet. Start with: harness push STRATEGY")
            return
        columns = ["run", "state", "oof AUC", "pooled", "seconds", "kernel", "digest", "created"]
        rows = [
            [
                run.run_id,
                state_text(run),
                number(run.score_mean_fold),
                number(run.score_pooled),
                number(run.seconds, 0),
                str(run.kernel),
                run.digest[:12],
                run.created_at[:16],
            ]
            for run in found
        ]
        print_table(columns, rows, numeric=["oof AUC", "pooled", "seconds"])


@main.command()
@common_options
def status(remote: str | None, profile: str | None, as_json: bool) -> None:
    """Where things stand: open runs, results, submissions, and what to do next.

    Reads the ledger only; `harness watch` asks the remote.

    \b
    Examples:
      harness status
      harness status --remote kaggle --json
    """
    from harness.commands.status import status as run_status
    from harness.terminal import number, print_json

    with bench_for(remote, profile) as bench:
        result = run_status(bench)
        if as_json:
            print_json(result)
            return
        click.echo(f"remote {result.remote}, profile {result.profile} ({result.profile_reason})")
        click.echo(
            f"runs: {result.open} open, {result.to_pull} to pull, {result.pulled} pulled, {result.failed} failed"
            + (f", {result.queued} queued (harness queue)" if result.queued else "")
        )
        for run in result.failures[-5:]:
            click.echo(f"{run.run_id}: {state_text(run)}: {run.failure or 'no reason given'}")
        if result.best is not None:
            click.echo(
                f"best: {result.best.run_id}, out-of-fold {number(result.best.score_mean_fold)}"
            )
        for submission in result.submissions[-5:]:
            score = submission.public_score or submission.status.lower()
            click.echo(f"submission {submission.ref or '-'}: {score}  {submission.csv.name}")
        click.echo(f"Next: {result.next_step}")


for command in (
    *CHAIN_COMMANDS,
    *BLEND_COMMANDS,
    *PACKAGE_COMMANDS,
    *REPORT_COMMANDS,
    *NEW_COMMANDS,
    *PLAN_COMMANDS,
    *DOCTOR_COMMANDS,
):
    main.add_command(command)
main.add_command(results)
main.add_command(local)
main.add_command(verify)

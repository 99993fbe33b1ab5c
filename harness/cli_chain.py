"""Commands that carry work from one kernel to the next: parse, call, print. ``cli.py`` adds them.

Imports are inside the commands, so that ``harness --help`` loads neither numpy, pandas nor kaggle.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from harness.cli_common import bench_for, common_options
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.commands.inference import Comparison
    from harness.commands.tick import Action
    from harness.records import QueuedSpec


@click.command()
@click.option("--follow", is_flag=True, help="Go on until nothing is left that moves by itself.")
@common_options
def tick(follow: bool, remote: str | None, profile: str | None, as_json: bool) -> None:
    """One step of everything, then out: fit for cron.

    Asks for states, settles pushes and submissions that were cut off, fetches scores, pulls what has
    finished, takes up runs that stopped at their time budget, and pushes what is queued within the session
    limits. The exit code is 1 when something failed. A second tick at the same time leaves at once.

    \b
    Examples:
      harness tick
      harness tick --follow
      */10 * * * * cd WORKSPACE && harness tick --remote kaggle      (a line for crontab)
    """
    from harness.commands.tick import follow_ticks
    from harness.commands.tick import tick as run_tick
    from harness.terminal import print_json

    def told(action: "Action") -> None:
        if not as_json and action.what != "failed":
            click.echo(f"{action.item}: {action.what} {action.text}".rstrip())
        if action.what == "failed":
            click.echo(f"{action.item}: {action.text}", err=True)

    def waits(item: "QueuedSpec") -> None:
        if not as_json:
            click.echo(f"{item.spec.label()}: queued. {item.reason}")

    with bench_for(remote, profile) as bench:
        if follow:
            report = follow_ticks(bench, told, waits)
        else:
            report = run_tick(bench, told)
            for item in report.waiting:
                waits(item)
        if as_json:
            print_json({**vars(report), "failed": report.failed})
        elif report.busy:
            click.echo("Another tick is at work here.", err=True)
        elif not report.left and not report.waiting:
            click.echo(
                "Nothing is left to do by itself. Where things stand: harness status", err=True
            )
        if report.failed:
            click.get_current_context().exit(1)


@click.command()
@click.option(
    "--drop", "dropped", multiple=True, metavar="NAME", help="Take it out; may be repeated."
)
@common_options
def queue(dropped: tuple[str, ...], remote: str | None, profile: str | None, as_json: bool) -> None:
    """List what waits to be pushed, with the reason: for another run, or for a free session.

    \b
    Examples:
      harness queue
      harness queue --drop ssl_finetune-cpu
    """
    from harness.registry import did_you_mean
    from harness.terminal import print_json, print_table

    with bench_for(remote, profile) as bench:
        known = {item.spec.label(): item for item in bench.ledger.queue(bench.settings.remote)}
        for name in dropped:
            if name not in known:
                if not known:
                    raise ConfigError("Nothing is queued.")
                raise did_you_mean("queued push", name, known)
        for name in dropped:
            bench.ledger.dequeue(bench.settings.remote, known.pop(name).spec)
        if as_json:
            print_json(list(known.values()))
        elif not known:
            click.echo("Nothing is queued.")
        else:
            rows = [[name, item.created_at[:16], item.reason] for name, item in known.items()]
            print_table(["push", "since", "reason"], rows)


# ---- push --inference ----------------------------------------------------------------------------


@dataclass(frozen=True)
class InferenceOptions:
    """What push --inference was asked for."""

    blend: str | None
    rehearse: bool
    submit: bool
    hidden_rows: int | None
    competition: str | None
    message: str
    yes: bool
    force: bool


def inference_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that go with push --inference."""
    for option in (
        click.option("--yes", is_flag=True, help="With --submit: do not ask when the gate warns."),
        click.option("--message", default="", help="With --submit: shown beside the submission."),
        click.option(
            "--competition", help="With --inference: slug, when several competitions have runs."
        ),
        click.option(
            "--hidden-rows",
            type=click.IntRange(min=1),
            help="With --inference: films in the hidden test, for the forecast.",
        ),
        click.option(
            "--submit", is_flag=True, help="With --inference: wait, submit the version, score it."
        ),
        click.option(
            "--rehearse/--no-rehearse",
            default=True,
            help="With --inference: run the exact bytes here before they are sent.",
        ),
        click.option(
            "--inference",
            is_flag=False,
            flag_value="",
            metavar="[BLEND]",
            help="Push a blend as one kernel; without a name, of what is there by the default method.",
        ),
    ):
        command = option(command)
    return command


def check_inference_words(
    blend: str | None, has_options: bool, has_names: bool, has_settings: bool
) -> None:
    """Refuse words on push's command line that do not go together (ConfigError)."""
    if blend is None:
        if has_options:
            raise ConfigError(
                "--submit, --no-rehearse, --hidden-rows, --competition, --message and --yes go with "
                "--inference.",
                "For example: harness push --inference --submit",
            )
    elif has_names:
        raise ConfigError(
            "--inference takes a blend, not strategies.",
            "Put it last: harness push --inference BLEND",
        )
    elif has_settings:
        raise ConfigError(
            "A blend's members are as they were trained: --inference takes no settings of strategies.",
            "Leave out --variant, --set, --fold, --seed, --tag and --notebook.",
        )


def push_inference_kernel(
    options: InferenceOptions, remote: str | None, profile: str | None, as_json: bool
) -> None:
    """Rehearse, push and with --submit wait, submit and score; each part is skipped where it is done."""
    from harness.cli_blend import ask
    from harness.commands import inference
    from harness.commands.push import Waiting
    from harness.terminal import log_line, print_json

    def note(text: str) -> None:
        click.echo(f"note: {text}", err=True)

    with bench_for(remote, profile) as bench:
        plan = inference.plan_inference(bench, options.blend, options.competition)
        for text in plan.notes:
            note(text)
        forecasts, compared = [], None
        if options.rehearse and bench.ledger.dry_run_passed(plan.build.digest) is None:
            found, compared = inference.rehearse_inference(
                bench, plan, lambda line: log_line("rehearsal", line)
            )
            forecasts.append(
                inference.forecast(
                    plan, found.folder / "outputs", "on this machine", options.hidden_rows
                )
            )
            click.echo(f"rehearsed: {comparison_text(compared)}; {forecasts[-1].text()}", err=True)
        result = inference.push_inference(bench, plan, options.force)
        if isinstance(result, Waiting):
            label = result.queued.spec.label()
            if not options.submit:
                if as_json:
                    print_json({"blend": plan.blend_id, "queued": result.queued})
                else:
                    click.echo(f"{label}: queued. {result.queued.reason}")
                    click.echo(
                        "Next: harness tick --follow (pushes it as soon as a session is free)",
                        err=True,
                    )
                return
            click.echo(f"{label}: waiting for a session. {result.queued.reason}", err=True)
            result = inference.await_session(bench, plan, result)
        run, submission = result.run, None
        if not as_json:
            what = f"already there ({run.state.lower()})" if result.already_there else "pushed"
            click.echo(f"{run.run_id}: {what} as {run.kernel}, digest {run.digest[:12]}")
        if options.submit:
            run = inference.await_inference(
                bench,
                run,
                lambda run: click.echo(f"{run.run_id}: {run.state.lower()}", err=True),
                lambda run, line: log_line(run.run_id, line),
            )
            folder = bench.outputs_folder(run)
            compared = inference.compare(plan, folder / "submission.csv")
            forecasts.append(
                inference.forecast(plan, folder, "measured there", options.hidden_rows)
            )
            click.echo(f"{comparison_text(compared)}; {forecasts[-1].text()}", err=True)
            asks = sys.stdin.isatty() and sys.stderr.isatty() and not options.yes and not as_json
            submission = inference.submit_inference(
                bench, plan, run, options.message, ask if asks else None
            )
        if as_json:
            print_json(
                {
                    "blend": plan.blend_id,
                    "members": [member.name for member in plan.config.members],
                    "run": run,
                    "already_there": result.already_there,
                    "notes": plan.notes,
                    "comparison": compared,
                    "forecasts": [{**vars(item), "fits": item.fits} for item in forecasts],
                    "submission": submission,
                }
            )
        elif submission is not None:
            score = submission.public_score or f"not scored ({submission.error})"
            click.echo(f"{run.kernel} submitted as {submission.ref}: public score {score}")
        elif not options.submit:
            click.echo(f"Next: harness push --inference {plan.blend_id} --submit", err=True)


def comparison_text(compared: "Comparison | None") -> str:
    """How the kernel's predictions stand to the blend's."""
    if compared is None:
        return "on drawn films, nothing to compare with"
    if not compared.rows:
        return "no film is also in the blend's file"
    return f"{compared.rows} films within {compared.largest:.1e} of the blend's file"


@click.command()
@click.argument("name", metavar="STRATEGY|RUN")
@click.option(
    "--to",
    "target",
    type=click.Choice(["folder", "kaggle-models", "huggingface"]),
    default="folder",
    show_default=True,
)
@click.option("--into", metavar="FOLDER|OWNER/NAME", help="The folder, or the hub's repository.")
@click.option("--license", "license_name", help="As the service names it; needed by both of them.")
@click.option("--public", is_flag=True, help="For everybody to see; private without it.")
@click.option("--force", is_flag=True, help="Before the competition's deadline too.")
@common_options
def publish(
    name: str,
    target: str,
    into: str | None,
    license_name: str | None,
    public: bool,
    force: bool,
    remote: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Publish a trained model: model card, results.json, plots and the network.

    Takes the newest complete run of a strategy, or a run by its id. Refused before the competition's
    deadline, since sharing is usually forbidden until then. The same files are never published twice.
    (For datasets that kernels read: harness package.) Hugging Face needs pip install '.[hub]' and HF_TOKEN;
    it has not been tried against the live hub.

    \b
    Examples:
      harness publish effnetv2_s --to folder --into ../effnetv2_s
      harness publish effnetv2_s-full-3 --to kaggle-models --license "Apache 2.0"
      harness publish ssl --to huggingface --into me/xray-ssl --license apache-2.0 --public
    """
    from harness.commands.publish_model import publish_model
    from harness.terminal import print_json

    with bench_for(remote, profile) as bench:
        done = publish_model(
            bench,
            name,
            target,
            into=into,
            license_name=license_name,
            public=public,
            force=force,
        )
        if as_json:
            print_json(done)
            return
        what = "already there" if done.already_there else "published"
        click.echo(f"{done.run.run_id}: {what}, {len(done.files)} files, at {done.where}")


CHAIN_COMMANDS = (tick, queue, publish)

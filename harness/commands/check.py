"""Check: what would stop a push or a submission, found before anything is sent.

Each line is green, yellow (worth knowing) or red (it would fail), with the next step. Nothing is
published, converted or downloaded.
"""

import ast
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from harness.bundle import REFUSE_BYTES, check_size
from harness.commands.chain import newest_run, upstream_spec
from harness.commands.weights import is_installed
from harness.errors import ConfigError, HarnessError
from harness.kaggle_image import (
    CONCURRENT_SESSIONS,
    IMAGE_DATE,
    IMAGE_PACKAGES,
    RETIRED_MACHINES,
    WEEKLY_HOURS,
)
from harness.package import CODE_SLUG, kind_of, packer_for, weights_file, wheels_slug
from harness.records import DatasetBuild, Handle, RunSpec
from harness.registry import load_competition, load_strategies, load_strategy
from harness.remote import ReadRefused
from harness.render import backbones_of, configure, render_kernel
from harness.settings import choose_profile
from harness.wheels import (
    distribution_of,
    imported_modules,
    missing_requirements,
    packed_requirements,
    requirement_name,
)
from harness.workbench import Workbench
from kernels.config import Competition, Strategy, weights_slug

OK, NOTE, FAIL = "ok", "note", "fail"
# A path that exists on somebody's machine; of the roots that Kaggle has, these mean the same there.
ABSOLUTE_PATH = re.compile(r"(?:/(?!/)[\w.@-]+){2,}/?|[A-Za-z]:\\\\?[\w.\\ -]+")
PORTABLE_ROOTS = ("kaggle", "tmp", "dev", "proc", "sys", "usr", "etc")
NETWORK_MODULES = frozenset({"requests", "httpx", "aiohttp", "huggingface_hub", "gdown", "wandb"})
DEADLINE_NEAR_H = 48.0


@dataclass(frozen=True)
class Line:
    """One thing that was looked at."""

    subject: str  # account, a competition's slug or a strategy's name
    check: str
    state: str  # ok, note, fail
    fact: str
    next: str = ""


def check(bench: Workbench, names: Sequence[str] = ()) -> Iterator[Line]:
    """Look at the account, each competition and each strategy; lines as they are found.

    Args:
        names: Strategies; without one all of the workspace.

    Raises:
        ConfigError: An unknown strategy.
        RemoteUnavailable: The remote does not answer at all.
    """
    workspace = bench.settings.workspace
    strategies = [load_strategy(workspace, name) for name in names] or load_strategies(workspace)
    profile, _ = choose_profile(bench.settings)
    machines = {_machine(item.accelerator, profile) for item in strategies}
    signed_in = yield from _account(bench, machines)
    if not signed_in:
        return
    yield from _sessions(bench, machines)
    competitions = {
        name: load_competition(workspace, name)
        for name in dict.fromkeys(item.competition for item in strategies)
    }
    for competition in competitions.values():
        yield from _competition(bench, competition)
    for strategy in strategies:
        yield from _strategy(bench, strategy, competitions[strategy.competition], profile)


# ---- the account ---------------------------------------------------------------------------------


def _account(bench: Workbench, machines: set[str]) -> Generator[Line, None, bool]:
    """Credentials and quota; returns whether the remote knows us."""
    try:
        quota = bench.remote.accelerator_quota()
    except ReadRefused:
        quota = {}  # an answer all the same: the credentials are good
    except ConfigError as error:
        yield Line("account", "credentials", FAIL, error.message, error.hint or "")
        return False
    remote = bench.settings.remote
    yield Line("account", "credentials", OK, f"{bench.owner} on {remote}")
    for name in ("gpu", "tpu"):
        if name not in machines:
            continue
        if name not in quota:
            fact = f"the service tells none; usually {WEEKLY_HOURS[name]:.0f} h a week"
            yield Line("account", f"{name.upper()} quota", NOTE, fact)
            continue
        used, allowed = quota[name]
        left = (allowed - used) / 3600
        state = OK if left >= 1 else FAIL
        yield Line(
            "account",
            f"{name.upper()} quota",
            state,
            f"{left:.1f} of {allowed / 3600:.0f} h left this week",
            "" if state == OK else "Wait for the weekly reset, or run with --profile cpu.",
        )
    return True


def _accelerator(bench: Workbench, spec: RunSpec) -> str:
    try:
        return load_strategy(bench.settings.workspace, spec.strategy).accelerator
    except ConfigError:  # a blend as a kernel, or a strategy that is gone or broken
        return "cpu"


def _sessions(bench: Workbench, machines: set[str]) -> Iterator[Line]:
    """Free sessions by the runs that the ledger knows: the API tells of no others."""
    used = [
        _machine(_accelerator(bench, run.spec), run.spec.profile)
        for run in bench.ledger.open_runs(bench.settings.remote)
    ]
    for machine in sorted(machines):
        limit = CONCURRENT_SESSIONS[machine]
        free = limit - used.count(machine)
        fact = f"{max(free, 0)} of {limit} free ({used.count(machine)} open here)"
        yield Line(
            "account",
            f"{machine.upper()} sessions",
            OK if free > 0 else FAIL,
            fact,
            "" if free > 0 else "Wait for one to end: harness watch --follow",
        )


def _machine(accelerator: str, profile: str) -> str:
    return accelerator if profile == "full" else "cpu"


# ---- competitions --------------------------------------------------------------------------------


def _competition(bench: Workbench, competition: Competition) -> Iterator[Line]:
    slug = competition.slug
    try:
        bench.remote.check_competition(slug)
    except ConfigError as error:
        yield Line(slug, "rules", FAIL, error.message, error.hint or "")
        return
    yield Line(slug, "rules", OK, "joined; its data can be mounted")
    try:
        info = bench.remote.competition_info(slug)
    except HarnessError as error:
        yield Line(slug, "deadline", NOTE, error.message)
    else:
        yield _deadline(slug, info.deadline, info.closed)
        yield _kind(competition, info.kernels_only)
    try:
        limits = bench.remote.submission_limits(slug)
    except HarnessError as error:
        yield Line(slug, "submissions", NOTE, error.message)
    else:
        fact = f"{limits.allowed_now} left today, {limits.today} made"
        if limits.allowed_now > 0:
            yield Line(slug, "submissions", OK, fact)
        else:
            yield Line(slug, "submissions", FAIL, fact, "Counts start again at 00:00 UTC.")


def _kind(competition: Competition, kernels_only: bool) -> Line:
    """Whether the competition's file says of it what the service does."""
    takes = "kernels" if kernels_only else "files"
    if kernels_only == (competition.kind == "code"):
        return Line(competition.slug, "kind", OK, f"takes {takes}, as its file says")
    kind = "code" if kernels_only else "csv"
    return Line(
        competition.slug,
        "kind",
        FAIL if kernels_only else NOTE,
        f"takes {takes}; its file in kernels/competitions says kind={competition.kind!r}",
        f'Write there: kind="{kind}"',
    )


def _deadline(slug: str, deadline: str | None, closed: bool) -> Line:
    if closed:
        return Line(slug, "deadline", FAIL, "it takes no submissions", "Kernels still run.")
    if deadline is None:
        return Line(slug, "deadline", NOTE, "the service tells none")
    hours = (datetime.fromisoformat(deadline) - datetime.now(UTC)).total_seconds() / 3600
    if hours < 0:
        return Line(
            slug, "deadline", NOTE, f"was {deadline}", "Late submissions count for no leaderboard."
        )
    left = f"{hours / 24:.0f} days" if hours > 48 else f"{hours:.0f} h"
    return Line(slug, "deadline", NOTE if hours < DEADLINE_NEAR_H else OK, f"{left} left")


# ---- strategies ----------------------------------------------------------------------------------


def _strategy(
    bench: Workbench, strategy: Strategy, competition: Competition, profile: str
) -> Iterator[Line]:
    def line(check: str, state: str, fact: str, step: str = "") -> Line:
        return Line(strategy.name, check, state, fact, step)

    spec = RunSpec(strategy.name, profile=profile)
    internet = strategy.internet and profile == "full"
    try:
        digests, lines = _datasets(bench, strategy, spec, internet, line)
        yield from lines
        yield from _needs(bench, strategy, spec, line)
        build = render_kernel(
            bench.settings.workspace,
            strategy,
            spec,
            bench.owner,
            competition.slug,
            digests,
            code_slug=next((slug for slug in digests if kind_of(slug) == "code"), None),
            wheels_slug=next((slug for slug in digests if kind_of(slug) == "wheels"), None),
            cache=bench.settings.bundles_folder,
        )
    except HarnessError as error:
        yield line("script", FAIL, error.message, error.hint or "")
        return
    size = len(build.source.encode())
    warnings = check_size(build.source)
    state = NOTE if warnings else OK
    yield line("size", state, f"{size / 1000:.0f} kB of {REFUSE_BYTES / 1000:.0f} kB")
    # A thin script's modules are looked at where they are: as one script.
    source = build.source
    if bench.settings.bundle == "dataset":
        inner = {slug: digest for slug, digest in digests.items() if slug != CODE_SLUG}
        source = render_kernel(
            bench.settings.workspace,
            strategy,
            spec,
            bench.owner,
            competition.slug,
            inner,
            cache=bench.settings.bundles_folder,
        ).source
    yield from _source(source, line)
    yield _imports(bench, strategy, source, internet, line)
    if competition.kind == "code" and internet:
        fact = "a code competition takes no kernel with internet"
        yield line("internet", FAIL, fact, "Set internet=False and package what it fetches.")
    elif not internet and (used := sorted(imported_modules(source) & NETWORK_MODULES)):
        yield line("internet", NOTE, f"off, and the script imports {', '.join(used)}")
    else:
        yield line("internet", OK, "on, to fetch weights" if internet else "off, and not needed")
    machine = str(build.metadata.get("machine_shape", ""))
    if machine in RETIRED_MACHINES:
        fact = f"{machine} is retired; the service silently gives {RETIRED_MACHINES[machine]}"
        yield line("accelerator", FAIL, fact, "Name the other one.")
    else:
        yield line("accelerator", OK, machine or "CPU")


def _datasets(
    bench: Workbench,
    strategy: Strategy,
    spec: RunSpec,
    internet: bool,
    line: Callable[..., Line],
) -> tuple[dict[str, str], list[Line]]:
    """Slug -> digest of what the script will read, and how current each is on the remote."""
    packer = packer_for(bench.settings)
    config = configure(strategy, spec).pick(spec.profile)
    builds: list[DatasetBuild] = []
    lines = []
    digests: dict[str, str] = {}
    wanted = [*strategy.datasets]
    if wheels_slug(strategy.name) in packer.slugs():
        wanted.append(wheels_slug(strategy.name))
    for slug in wanted:
        try:
            builds.append(packer.folder(slug))
        except ConfigError as error:
            lines.append(line("datasets", FAIL, error.message, error.hint or ""))
    if getattr(config, "weights", "pretrained") == "pretrained":
        for backbone in backbones_of(config):
            slug = weights_slug(backbone)
            if weights_file(packer.datasets_folder / slug, backbone) is not None:
                builds.append(packer.folder(slug))
            elif is_installed(backbone):
                digests[slug] = ""
                fact = f"{slug} will be made from an installed package"
                lines.append(line("datasets", OK, fact))
            elif internet and bench.settings.remote == "kaggle":
                lines.append(line("datasets", OK, f"weights of {backbone} come from the hub"))
            else:
                step = f"harness weights add {backbone} [--file FILE]"
                fact = f"weights of {backbone} are not here, and the kernel has no internet"
                lines.append(line("datasets", FAIL, fact, step))
    if bench.settings.bundle == "dataset":
        builds.append(packer.code())
    for build in builds:
        digests[build.slug] = build.digest
        lines.append(_dataset_line(bench, build, line))
    if not digests and not lines:
        lines.append(line("datasets", OK, "it reads none but the competition's"))
    return digests, lines


def _needs(
    bench: Workbench, strategy: Strategy, spec: RunSpec, line: Callable[..., Line]
) -> Iterator[Line]:
    """Whether the runs that a strategy starts from are there; a push queues it until they are."""
    for need in strategy.needs:
        load_strategy(bench.settings.workspace, need)  # refuses a name that is none
        run = newest_run(bench, upstream_spec(bench, need, spec))
        if run is not None and run.ended_well:
            yield line("needs", OK, f"starts from {run.run_id}")
        else:
            fact = f"starts from {need}, which has no complete run in profile {spec.profile}"
            yield line("needs", NOTE, fact, f"A push sends {need} first and waits in the queue.")


def _dataset_line(bench: Workbench, build: DatasetBuild, line: Callable[..., Line]) -> Line:
    handle = Handle(bench.owner, build.slug)
    current = bench.remote.dataset_version(handle)
    known = bench.ledger.dataset_version(bench.settings.remote, str(handle), build.digest)
    if current and known == current:
        return line("datasets", OK, f"{build.slug}: version {current} is current")
    status = bench.remote.dataset_status(handle) if current is not None else ""
    if status == "FAILED" and not current:
        fact = f"{handle} was refused by the service after its upload"
        return line("datasets", FAIL, fact, "See its page; the next push sends it anew.")
    fact = f"{build.slug}: push will send {build.size / 1e6:.1f} MB and wait for it"
    return line("datasets", NOTE, fact, f"Or now: harness package {build.slug} --publish")


def _source(source: str, line: Callable[..., Line]) -> Iterator[Line]:
    """Syntax, names and paths of a script."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        yield line("syntax", FAIL, f"line {error.lineno}: {error.msg}", "Mend the module.")
        return
    undefined = undefined_names(tree)
    if undefined:
        yield line("names", FAIL, "; ".join(undefined[:3]), "Import or define them.")
    else:
        yield line("names", OK, "syntax and all names are known")
    paths = foreign_paths(tree)
    if paths:
        yield line(
            "paths", FAIL, "; ".join(paths[:3]), "Use kaggle_paths(): kernels/blocks/paths.py"
        )
    else:
        yield line("paths", OK, "none outside /kaggle")


def undefined_names(tree: ast.Module) -> list[str]:
    """Names that a script reads and nobody binds, with their lines."""
    from pyflakes import checker, messages

    found = checker.Checker(tree, builtins={"__file__"}).messages
    kinds = (messages.UndefinedName, messages.UndefinedLocal)
    return [
        f"line {item.lineno}: {item.message_args[0]}"
        for item in sorted(found, key=lambda item: int(item.lineno))
        if isinstance(item, kinds)
    ]


def foreign_paths(tree: ast.Module) -> list[str]:
    """Absolute paths in a script's strings that Kaggle does not have, with their lines."""
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    # What is appended is the rest of a path, and not one from the root.
    appended: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            appended.update(map(id, node.values[1:]))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            appended.add(id(node.right))
    skipped = documents | appended
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        text = node.value
        if id(node) in skipped or not ABSOLUTE_PATH.fullmatch(text):
            continue
        if text.split("/")[1:2] and text.split("/")[1] in PORTABLE_ROOTS:
            continue
        found.append((node.lineno, text))
    return [f"line {number}: {text}" for number, text in sorted(found)]


def _imports(
    bench: Workbench,
    strategy: Strategy,
    source: str,
    internet: bool,
    line: Callable[..., Line],
) -> Line:
    missing = missing_requirements(source, strategy.packages)
    image = f"Kaggle's image of {IMAGE_DATE}"
    if not missing:
        count = len({distribution_of(module) for module in imported_modules(source)})
        return line("imports", OK, f"{count} distributions, all in {image}")
    packed = packed_requirements(bench.settings.datasets_folder / wheels_slug(strategy.name))
    lacking = [item for item in missing if item not in packed]
    if not lacking:
        return line("imports", OK, f"{', '.join(missing)} from packed wheels, the rest in {image}")
    fact = f"{', '.join(map(_beside_image, lacking))}: not in {image}"
    step = f"harness wheels build {strategy.name}"
    # The local Kaggle runs in this environment, whatever Kaggle's has.
    on_kaggle = bench.settings.remote == "kaggle"
    return line("imports", FAIL if on_kaggle and not internet else NOTE, fact, step)


def _beside_image(requirement: str) -> str:
    """A requirement, with the version that the image has of it when that is another one."""
    version = IMAGE_PACKAGES.get(requirement_name(requirement))
    return f"{requirement} (the image has {version})" if version else requirement

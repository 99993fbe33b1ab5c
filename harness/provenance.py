"""Where a submission came from: its record, the checks of every hash in it, and its bytes again.

The record lies beside the file and, equal to it, in the ledger. It names members with weights, kernel
versions, script digests, dataset versions, the fold scheme, library versions, the git commit, and the
sha256 of every file that was read or written.
"""

import hashlib
import io
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import __version__
from harness.blending import Blend, Recipe
from harness.durable import write_bytes
from harness.errors import ConfigError
from harness.ledger import Ledger, utc_now
from harness.members import Floats, MemberTable
from harness.outputs import is_small, manifest_files
from harness.records import ImportedMember, Run, to_json
from harness.workbench import DATA_KEY
from kernels.config import Competition
from kernels.contract import MANIFEST_FILE, OOF_FILE, TEST_FILE, sha256_file

if TYPE_CHECKING:
    import pandas as pd

RECORD_SCHEMA = 2
LIBRARIES = ("kaggle", "kagglesdk", "numpy", "pandas")
SCRIPT_FILE = "script.py"

Source = Run | ImportedMember


def csv_bytes(predictions: "pd.DataFrame") -> bytes:
    """A submission's bytes: shortest decimals that read back exactly, one form of line end."""
    return predictions.to_csv(index=False, lineterminator="\n").encode()


def library_versions() -> dict[str, str]:
    """Versions of what computes a blend."""
    found = {"harness": __version__}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


# ---- nested predictions --------------------------------------------------------------------------


@dataclass(frozen=True)
class Validation:
    """A submission's out-of-fold predictions with the rows they belong to: what pairs two submissions."""

    table: MemberTable  # without members
    predictions: Floats  # (N, T)
    rows_sha256: str  # equal digests: the same ids, folds, seeds and labels


def rows_digest(table: MemberTable) -> str:
    """sha256 over ids, seeds, folds and targets of a table's rows."""
    total = hashlib.sha256()
    for value in table.ids:
        total.update(str(value).encode() + b"\0")
    for array in (table.seeds, table.folds, table.targets):
        total.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
    return total.hexdigest()


def save_validation(path: Path, table: MemberTable, predictions: Floats) -> str:
    """Write nested predictions beside the ledger; the digest of their rows."""
    digest = rows_digest(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        ids=table.id_codes.astype(np.int32),
        units=table.units.astype(np.int32),
        seeds=table.seeds.astype(np.int32),
        folds=table.folds.astype(np.int32),
        targets=table.targets,
        predictions=predictions,
        grouped=np.array(table.grouped),
        metric=np.array(table.metric),
        rows=np.array(digest),
    )
    write_bytes(path, buffer.getvalue())
    return digest


def load_validation(path: Path) -> Validation | None:
    """Nested predictions as they were saved, or None when the file is not there or unreadable."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            table = MemberTable(
                names=(),
                imported=frozenset(),
                metric=str(kept["metric"]),
                ids=kept["ids"],
                seeds=kept["seeds"],
                folds=kept["folds"],
                units=kept["units"],
                grouped=bool(kept["grouped"]),
                targets=kept["targets"],
                predictions=np.empty((0, 0, 0)),
                test_ids=np.empty(0),
            )
            return Validation(table, kept["predictions"], str(kept["rows"]))
    except (OSError, ValueError, KeyError, EOFError):
        return None


# ---- the record ----------------------------------------------------------------------------------


def make_record(
    competition: Competition,
    blend: Blend,
    table: MemberTable,
    members: Sequence[dict[str, Any]],
    csv: Path,
    rows: int,
    files: dict[str, Any],
    git: tuple[str | None, bool],
    remote: str,
) -> dict[str, Any]:
    """Everything needed to tell where a submission file came from, and to make it again.

    Args:
        members: One entry each as member_record gives it.
        files: sha256 of the sample submission, nested predictions and groups, as they were used.
    """
    seeds, folds = np.unique(table.seeds), np.unique(table.folds)
    return {
        "schema_version": RECORD_SCHEMA,
        "created_at": utc_now(),
        "competition": competition.slug,
        "metric": table.metric,
        "file": {
            "name": csv.name,
            "sha256": sha256_file(csv),
            "bytes": csv.stat().st_size,
            "rows": rows,
        },
        "method": blend.method,
        "asked": blend.asked,
        "recipe": to_json(blend.recipe),
        "score_nested": json_number(to_json(blend.score)),
        "score_rank_mean": json_number(to_json(blend.rank_mean)),
        "versus_best": json_number(to_json(blend.versus_best)),
        "versus_rank_mean": json_number(to_json(blend.versus_rank_mean)),
        "methods": [
            {
                "method": item.method.name,
                "score_nested": json_number(to_json(item.score)),
                "in_sample": item.in_sample,
                "versus_best": json_number(to_json(item.versus_best)),
            }
            for item in blend.results
        ],
        "explanation": list(blend.explanation),
        "fold_scheme": {
            "seeds": [int(seed) for seed in seeds],
            "folds": [int(fold) for fold in folds],
            "ids": table.n,
            "rows": len(table.seeds),
            "groups": int(table.units.max()) + 1 if table.grouped else None,
            "nested": "weights of a (seed, fold) fitted on rows of other ids or groups",
        },
        "members": [dict(item) for item in members],
        "dropped": [{"run_id": run_id, "reason": reason} for run_id, reason in blend.dropped],
        "inputs": files,
        "git": {"commit": git[0], "dirty": git[1]},
        "versions": library_versions(),
        "remote": remote,
        "submission": None,
    }


def json_number(value: Any) -> Any:
    """NaN and infinities as None: JSON has neither."""
    if isinstance(value, dict):
        return {key: json_number(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_number(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def run_record(run: Run, outputs: Path) -> dict[str, Any]:
    """A run's part of the chain: kernel version, script, datasets, commit, and its files by hash."""
    manifest = json.loads((outputs / MANIFEST_FILE).read_text("utf-8"))
    return {
        "kind": "run",
        "kernel": str(run.kernel),
        "script_sha256": run.script_sha256,
        "digest": run.digest,
        "commit": run.commit,
        "dirty": run.dirty,
        "datasets": run.datasets,
        "spec": to_json(run.spec),
        "versions": manifest.get("versions"),
        "manifest_sha256": sha256_file(outputs / MANIFEST_FILE),
        "files": {file.path: file.sha256 for file in manifest_files(manifest)},
    }


def import_record(item: ImportedMember) -> dict[str, Any]:
    """An imported member's part of the chain: it ends at the files that were given."""
    return {"kind": "import", **to_json(item)}


def recipe_of(record: dict[str, Any]) -> Recipe:
    """The recipe in a record (ConfigError for a record that has none)."""
    found = record.get("recipe")
    if not found:
        raise ConfigError(
            "The record was written by an older harness and holds no recipe.",
            "Blend again: harness blend-and-submit --dry-run",
        )
    return Recipe(
        found["method"],
        found["space"],
        tuple((str(name), float(weight)) for name, weight in found["weights"]),
        float(found["intercept"]),
        tuple(float(value) for value in found.get("thresholds", ())),
    )


def read_record(path: Path) -> dict[str, Any]:
    """A record file.

    Raises:
        ConfigError: Missing, no JSON, or not a record.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist.", "A record lies beside each submission file.")
    try:
        record = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON ({error}).") from error
    if not isinstance(record, dict) or "file" not in record or "members" not in record:
        raise ConfigError(f"{path} is no provenance record.")
    return record


# ---- checks --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """One thing that the record says, compared with what is here."""

    what: str
    status: str  # ok | differs | missing: it was there and is not | open: cannot be checked here
    detail: str = ""


def check_file(what: str, path: Path, sha256: str | None, needed: bool = True) -> Check:
    """A file against its recorded hash."""
    if sha256 is None:
        return Check(what, "open", "no hash was recorded")
    if not path.is_file():
        return Check(what, "missing" if needed else "open", f"{path} is not here")
    found = sha256_file(path)
    if found != sha256:
        return Check(what, "differs", f"sha256 {found[:12]}, the record says {sha256[:12]}")
    return Check(what, "ok", f"sha256 {sha256[:12]}")


def compare(what: str, found: Any, recorded: Any) -> Check:
    """A value against its recorded one."""
    if found == recorded:
        return Check(what, "ok", str(recorded)[:60])
    return Check(what, "differs", f"{found!r} here, {recorded!r} in the record")


def check_run(entry: dict[str, Any], ledger: Ledger, remote: str, folder: Path) -> list[Check]:
    """Everything a record says about one run."""
    name = entry["run_id"]
    checks: list[Check] = []
    owner = str(entry.get("kernel", "")).split("/")[0]
    try:
        run = ledger.run(name)
    except ConfigError:
        checks.append(Check(f"{name}: ledger", "missing", "no such run in this ledger"))
    else:
        for what, found in (
            ("kernel version", str(run.kernel)),
            ("script_sha256", run.script_sha256),
            ("digest", run.digest),
            ("datasets", run.datasets),
        ):
            key = "kernel" if what == "kernel version" else what
            checks.append(compare(f"{name}: {what} in the ledger", found, entry.get(key)))
    script = entry.get("script_sha256")
    checks.append(check_file(f"{name}: pushed script", folder / SCRIPT_FILE, script))
    outputs = folder / "outputs"
    manifest = outputs / MANIFEST_FILE
    checks.append(check_file(f"{name}: manifest", manifest, entry.get("manifest_sha256")))
    if checks[-1].status == "ok":
        written_by = json.loads(manifest.read_text("utf-8"))["script_sha256"]
        checks.append(compare(f"{name}: script that wrote the outputs", written_by, script))
    checks += [
        check_file(f"{name}: {path}", outputs / path, sha256, needed=is_small(path))
        for path, sha256 in entry.get("files", {}).items()
    ]
    for slug, dataset in (entry.get("datasets") or {}).items():
        if slug == DATA_KEY:
            continue  # no dataset that anybody published: the competition's own files
        what = f"{name}: dataset {slug} version {dataset.get('version')}"
        handle = slug if "/" in slug else f"{owner}/{slug}"
        known = ledger.dataset_version(remote, handle, str(dataset.get("digest")))
        if known is None:
            checks.append(Check(what, "open", "the ledger did not publish this digest"))
        else:
            checks.append(compare(what, known, dataset.get("version")))
    return checks


def check_import(entry: dict[str, Any], folder: Path) -> list[Check]:
    """Everything a record says about an imported member."""
    name = entry["run_id"]
    return [
        check_file(f"{name}: {OOF_FILE}", folder / OOF_FILE, entry.get("oof_sha256")),
        check_file(f"{name}: {TEST_FILE}", folder / TEST_FILE, entry.get("test_sha256")),
        check_file(
            f"{name}: its source {entry['oof_source']}",
            Path(entry["oof_source"]),
            entry.get("oof_source_sha256"),
            needed=False,
        ),
        check_file(
            f"{name}: its source {entry['test_source']}",
            Path(entry["test_source"]),
            entry.get("test_source_sha256"),
            needed=False,
        ),
    ]


def check_commit(workspace: Path, git: dict[str, Any]) -> Check:
    """Whether the recorded commit is in this repository; a dirty tree is said aloud."""
    commit = git.get("commit")
    what = f"git commit {str(commit)[:12]}"
    if commit is None:
        return Check("git commit", "open", "made outside of git")
    try:
        done = subprocess.run(
            ["git", "cat-file", "-e", f"{commit}^{{commit}}"],
            cwd=workspace,
            capture_output=True,
            check=False,
        )
    except OSError:
        return Check(what, "open", "git is not installed")
    if done.returncode != 0:
        return Check(what, "open", "not in this repository")
    if git.get("dirty"):
        return Check(what, "open", "the tree had changes that no commit holds")
    return Check(what, "ok")

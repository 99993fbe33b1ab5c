"""Why: where a submission file came from, with every hash checked that can be; and its bytes again."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.blending import mix_test
from harness.commands.members import (
    import_folder,
    read_member,
    read_member_test,
    sample_path,
    sample_submission,
)
from harness.commands.validation import validation_path
from harness.errors import BlendError, ConfigError, ContractError
from harness.gate import read_submission
from harness.provenance import (
    Check,
    Source,
    check_commit,
    check_file,
    check_import,
    check_run,
    compare,
    csv_bytes,
    library_versions,
    read_record,
    recipe_of,
)
from harness.registry import competition_by_slug
from harness.workbench import DATA_KEY, Workbench
from kernels.config import Competition
from kernels.contract import MANIFEST_FILE, sha256_file


@dataclass(frozen=True)
class Explained:
    """A record, the file it is about, and what of it could be verified."""

    csv: Path
    record: dict[str, Any]
    checks: tuple[Check, ...]

    @property
    def is_sound(self) -> bool:
        """Nothing differs and nothing is missing."""
        return all(check.status in ("ok", "open") for check in self.checks)


@dataclass(frozen=True)
class Rebuilt:
    """The bytes made again, compared with the recorded ones."""

    csv: Path
    sha256: str
    recorded_sha256: str
    output: Path | None
    differences: tuple[str, ...]  # library versions that are not those of the record

    @property
    def is_identical(self) -> bool:
        """Whether not a byte differs."""
        return self.sha256 == self.recorded_sha256


def find_submission_file(bench: Workbench, name: str) -> tuple[Path, dict[str, Any]]:
    """A submission file and its record, from a path, a file name, or a submission's reference.

    Raises:
        ConfigError: Nothing of that name, or a file without a record.
    """
    path = Path(name)
    if name.isdigit() and not path.exists():
        for item in bench.ledger.submissions():
            if item.ref == int(name):
                path = item.csv
                break
        else:
            raise ConfigError(f"No submission with reference {name} in {bench.ledger.path}.")
    csv = path.with_suffix(".csv")
    if not csv.exists() and not csv.with_suffix(".json").exists() and path.parent == Path():
        found = sorted(bench.settings.submissions_folder.rglob(f"{csv.stem}.json"))
        csv = found[0].with_suffix(".csv") if found else csv
    record_path = csv.with_suffix(".json")
    if record_path.is_file():
        return csv, read_record(record_path)
    if not csv.is_file():
        raise ConfigError(f"{csv} does not exist.", "Name a file of submissions/, or a reference.")
    # A copy under another name: its bytes tell.
    digest = sha256_file(csv)
    for competition in {run.competition for run in bench.ledger.runs()}:
        for _, record in bench.ledger.blends(competition):
            if record["file"]["sha256"] == digest:
                return csv, record
    for run in bench.ledger.runs():
        if any(file.sha256 == digest for file, _ in bench.ledger.outputs(run.run_id)):
            raise ConfigError(
                f"{csv} is an output of run {run.run_id} ({run.kernel}), no blend.",
                f"Its chain: script {run.script_sha256[:12]}, commit {str(run.commit)[:12]}.",
            )
    raise ConfigError(f"{csv} has no record, and no blend in the ledger has its bytes.")


def why(bench: Workbench, name: str) -> Explained:
    """A submission's record with every hash checked that can be checked here."""
    csv, record = find_submission_file(bench, name)
    workspace, state = bench.settings.workspace, bench.settings.state
    checks = [check_file(csv.name, csv, record["file"]["sha256"])]
    kept = bench.ledger.blend(Path(record["file"]["name"]).stem)
    if kept is None:
        checks.append(Check("record in the ledger", "open", f"{bench.ledger.path} has none"))
    else:
        same = _core(kept) == _core(record)
        detail = "" if same else "the file beside the CSV and the ledger's copy are not equal"
        checks.append(Check("record in the ledger", "ok" if same else "differs", detail))
    inputs = record.get("inputs", {})
    sample = sample_path(bench, record["competition"])
    checks.append(
        check_file(
            "sample submission", sample, inputs.get("sample_submission_sha256"), needed=False
        )
    )
    stem = Path(record["file"]["name"]).stem
    checks.append(
        check_file(
            "nested predictions",
            validation_path(bench, stem),
            inputs.get("nested_predictions_sha256"),
            needed=False,
        )
    )
    for entry in record["members"]:
        if entry.get("kind") == "import":
            folder = import_folder(bench, record["competition"], entry["run_id"])
            checks += check_import(entry, folder)
        else:
            folder = state / "runs" / entry["run_id"]
            checks += check_run(entry, bench.ledger, record["remote"], folder)
            trained_on = (entry.get("datasets") or {}).get(DATA_KEY, {}).get("digest")
            if trained_on is not None:
                what = f"{entry['run_id']}: {DATA_KEY}"
                found = bench.data_digest(record["competition"])
                checks.append(
                    Check(what, "open", "not on this machine")
                    if found is None
                    else compare(what, found, trained_on)
                )
    checks.append(check_commit(workspace, record["git"]))
    sent = record.get("submission")
    if sent is not None:
        rows = {item.submission_id: item for item in bench.ledger.submissions()}
        known = rows.get(sent["submission_id"])
        if known is None:
            checks.append(Check(f"submission {sent['ref']}", "open", "not in this ledger"))
        else:
            digest = record["file"]["sha256"]
            checks.append(compare(f"submission {sent['ref']} sent", known.sha256, digest))
    return Explained(csv, record, tuple(checks))


def _core(record: dict[str, Any]) -> dict[str, Any]:
    """What does not change once the file is written."""
    return {key: value for key, value in record.items() if key != "submission"}


def rebuild(bench: Workbench, name: str, output: Path | None = None) -> Rebuilt:
    """Make a submission's bytes again from its members' pulled outputs and compare them.

    Args:
        output: Where to write them; None writes the file itself when it is missing.

    Raises:
        ContractError: A member's files are not those of the record.
        BlendError: A member is not in the ledger.
    """
    csv, record = find_submission_file(bench, name)
    recipe = recipe_of(record)
    competition = competition_by_slug(bench.settings.workspace, record["competition"])
    entries = {entry["run_id"]: entry for entry in record["members"]}
    sources = {member: _source(bench, competition, entries[member]) for member, _ in recipe.weights}
    sample_file = sample_submission(bench, competition)
    sample = read_submission(sample_file, competition.id_column)
    if sha256_file(sample_file) != record["inputs"]["sample_submission_sha256"]:
        raise ContractError(
            f"{sample_file} is not the sample submission of the record.",
            "The competition may have replaced it: the order of rows would differ.",
        )
    for member, _ in recipe.weights:
        outputs = read_member(bench, sources[member], competition)
        _check_manifest(entries[member], outputs.folder / MANIFEST_FILE)
    data = csv_bytes(
        mix_test(
            recipe,
            competition,
            list(sample[competition.id_column]),
            lambda member: read_member_test(bench, sources[member], competition),
        )
    )
    recorded = record["versions"]
    differences = tuple(
        f"{library} {version} here, {recorded.get(library)} then"
        for library, version in library_versions().items()
        if recorded.get(library) != version
    )
    target = output or (None if csv.exists() else csv)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return Rebuilt(csv, digest, record["file"]["sha256"], target, differences)


def _source(bench: Workbench, competition: Competition, entry: dict[str, Any]) -> Source:
    name = entry["run_id"]
    if entry.get("kind") == "import":
        for item in bench.ledger.imports(competition.slug):
            if item.name == name and item.test_sha256 == entry["test_sha256"]:
                return item
        raise BlendError(
            f"The imported member {name!r} of the record is not here.",
            f"Import it again: harness import {name} --oof FILE --test FILE",
        )
    return bench.ledger.run(name)


def _check_manifest(entry: dict[str, Any], manifest: Path) -> None:
    if entry.get("kind") != "import" and sha256_file(manifest) != entry["manifest_sha256"]:
        raise ContractError(
            f"Run {entry['run_id']}: its pulled outputs are not those of the record.",
            f"Pull it again: harness pull {entry['run_id']}",
        )

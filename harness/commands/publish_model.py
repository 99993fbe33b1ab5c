"""Publish a trained model: its card, results, plots and network, to a folder, Kaggle's models, or a hub.

(Datasets that kernels read are harness/publishing.py's.) Refused before the competition's deadline, since
most competitions forbid sharing outside of a team until then. Everything is private unless asked for.
Grad-CAM pictures stay here: they show the competition's films. The Hugging Face part was tried against a
stand-in that answers its calls, not against the live hub.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.commands.pull import pull
from harness.errors import ConfigError, PushRejected
from harness.package import disk_error
from harness.publishing import LOOK_AGAIN_S, digest_in, patiently
from harness.records import Handle, Run, RunSpec, RunState, slugify, text_digest, to_json
from harness.registry import competition_by_slug, did_you_mean
from harness.remote import Upload
from harness.settings import choose_profile
from harness.workbench import Workbench
from kernels.contract import (
    CARD_FILE,
    METRICS_FILE,
    MODEL_FILE,
    RESULTS_FILE,
    checkpoint_cell,
    sha256_file,
    write_json,
)

TARGETS = ("folder", "kaggle-models", "huggingface")
ABOUT_FILE = "publication.json"  # which run, and the digest by which it is recognised
PLOTS = ("cm.png", "roc.png", "pr.png", "calibration.png")
FRAMEWORKS = {".json": "MODEL_FRAMEWORK_OTHER", ".pt": "MODEL_FRAMEWORK_PY_TORCH"}
HUB_VARIABLES = ("HF_ENDPOINT", "HF_TOKEN")  # huggingface_hub's own


@dataclass(frozen=True)
class Publication:
    """What was published, and where it is now."""

    run: Run
    folder: Path
    files: tuple[str, ...]
    digest: str
    where: str
    already_there: bool = False


def choose_run(bench: Workbench, name: str) -> Run:
    """A run by id, or a strategy's newest complete and pulled one in this profile, plain if there is one.

    Raises:
        ConfigError: There is none.
    """
    runs = bench.ledger.runs(bench.settings.remote)
    for run in runs:
        if run.run_id == name:
            if run.score_mean_fold is None:
                raise ConfigError(f"Run {name} has no pulled results.", "First: harness pull")
            return run
    profile, _ = choose_profile(bench.settings)
    fitting = [
        run
        for run in runs
        if run.spec.strategy == name
        and run.spec.profile == profile
        and run.state is RunState.COMPLETE
        and run.score_mean_fold is not None
    ]
    if not fitting:
        known = sorted({run.spec.strategy for run in runs})
        if not known:
            raise ConfigError("There are no runs yet.", "First: harness push STRATEGY")
        if name not in known:
            raise did_you_mean("run or strategy", name, known)
        raise ConfigError(
            f"No run of {name!r} in profile {profile!r} is complete and pulled.",
            "First: harness pull; or name another --profile.",
        )
    plain = [run for run in fitting if run.spec == RunSpec(name, profile=profile)]
    return (plain or fitting)[-1]


def check_deadline(bench: Workbench, run: Run, now: datetime) -> None:
    """Refuse to publish while the competition runs.

    Raises:
        ConfigError: Its deadline is still to come, or cannot be asked for.
    """
    deadline = bench.remote.competition_info(run.competition).deadline
    if deadline is not None and now < datetime.fromisoformat(deadline):
        raise ConfigError(
            f"{run.competition} runs until {deadline}: sharing a model before is usually against its rules.",
            "Wait until then; if its rules allow it, add --force.",
        )


def gather(bench: Workbench, run: Run) -> Publication:
    """A folder of everything that is published, made anew each time.

    Raises:
        ContractError: A file is not what the run's manifest says, or cannot be fetched.
        ConfigError: The run saved no network.
    """
    (result,) = pull(bench, [run], checkpoints=True)
    if result.error is not None:
        raise result.error
    source = bench.outputs_folder(run)
    folder = bench.settings.state / "publications" / run.run_id
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    models = [MODEL_FILE] if (source / MODEL_FILE).is_file() else []
    if not models:
        listed = [file.path for file, _ in bench.ledger.outputs(run.run_id)]
        models = [path for path in listed if checkpoint_cell(path) is not None]
    if not models:
        raise ConfigError(
            f"Run {run.run_id} saved no network that can be published.",
            "Run it again with today's code: harness push STRATEGY --force",
        )
    for name in (RESULTS_FILE, METRICS_FILE, *PLOTS, *models):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / Path(name).name)
    card = (source / CARD_FILE).read_text("utf-8") if (source / CARD_FILE).is_file() else ""
    kept = [line for line in card.splitlines() if "`gradcam" not in line]
    (folder / CARD_FILE).write_text("\n".join(kept).strip() + "\n", encoding="utf-8")
    files = tuple(sorted(path.name for path in folder.iterdir()))
    digest = text_digest(*(f"{name} {sha256_file(folder / name)}" for name in files))
    write_json(
        folder / ABOUT_FILE,
        {
            "digest": digest,
            "run": run.run_id,
            "kernel": str(run.kernel),
            "script_sha256": run.script_sha256,
            "commit": run.commit,
            "spec": to_json(run.spec),
        },
    )
    return Publication(run, folder, (*files, ABOUT_FILE), digest, str(folder))


def to_folder(publication: Publication, target: Path) -> Publication:
    """Copy it to a folder that is empty, or holds an earlier publication.

    Raises:
        ConfigError: Something else is there, or the disk refused.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        about = target / ABOUT_FILE
        if not about.is_file():
            raise ConfigError(f"{target} holds something else.", "Name a new folder with --into.")
        if digest_in(about.read_text("utf-8")) == publication.digest:
            return Publication(**{**vars(publication), "where": str(target), "already_there": True})
        shutil.rmtree(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(publication.folder, target, dirs_exist_ok=True)
    except OSError as error:
        raise disk_error(target, error) from error
    return Publication(**{**vars(publication), "where": str(target)})


def to_kaggle_models(
    bench: Workbench, publication: Publication, license_name: str, *, public: bool
) -> Publication:
    """A model of the competition and strategy, a variation of the run's settings; a version for each digest.

    Raises:
        PushRejected, RemoteUnavailable: The service refused, or did not answer; run again, nothing is doubled.
    """
    run, remote = publication.run, bench.remote
    competition = competition_by_slug(bench.settings.workspace, run.competition)
    handle = Handle(bench.owner, slugify(f"{competition.slug}-{run.spec.strategy}"))
    label = slugify(run.spec.label()).removeprefix(slugify(run.spec.strategy)).strip("-")
    variation = label or run.spec.profile
    framework = FRAMEWORKS[".pt" if has_network(publication.files) else ".json"]
    where = f"{handle}/{framework.removeprefix('MODEL_FRAMEWORK_').lower()}/{variation}"

    def record(version: int) -> str | None:
        """The digest that a version's record names; it may not be listed at once."""
        return patiently(
            lambda: digest_in(
                remote.variation_text(handle, framework, variation, version, ABOUT_FILE)
            ),
            lambda digest: digest is not None,
            LOOK_AGAIN_S,
        )

    with bench.locked(f"model-{handle.slug}"):
        version = remote.variation_version(handle, framework, variation)
        if version:
            there = record(version)
            if there is None:
                raise PushRejected(
                    f"Version {version} of model {where} was not made by harness (no {ABOUT_FILE} to be read).",
                    "If it was, run the same command again; else delete or rename that model on Kaggle.",
                )
            if there == publication.digest:
                return Publication(
                    **{**vars(publication), "where": f"{where}/{version}", "already_there": True}
                )
        if not remote.model_exists(handle):
            title = handle.slug.replace("-", " ")
            remote.create_model(handle, title, competition.title, private=not public)
        tokens = []
        for name in publication.files:
            path = publication.folder / name
            bench.progress(f"model {handle}: {name} ({path.stat().st_size / 1e6:.1f} MB)")
            tokens.append(remote.upload_model_file(Upload(path, sha256_file(path))))
        remote.add_variation_version(
            handle,
            framework,
            variation,
            tokens,
            license_name=license_name,
            notes=f"run {run.run_id}, digest {publication.digest}",
            new=not version,
        )
        version = remote.variation_version(handle, framework, variation)
        there = record(version or 0)
    if there != publication.digest:
        raise PushRejected(
            f"Model {where} was published, but its version {version} is not what was sent.",
            "Run the same command again.",
        )
    return Publication(**{**vars(publication), "where": f"{where}/{version}"})


def to_hub(
    publication: Publication, repo: str, license_name: str, *, public: bool, tags: Sequence[str]
) -> Publication:
    """A repository on a Hugging Face hub, with the card's front matter; equal files make no new commit.

    The hub and the token are huggingface_hub's own settings (HF_ENDPOINT, HF_TOKEN or its login).

    Raises:
        ConfigError: huggingface_hub is not installed.
        PushRejected: The hub refused.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise ConfigError(
            "huggingface_hub is not installed.", "Install it: pip install '.[hub]'"
        ) from error
    card = publication.folder / CARD_FILE
    front = ["---", f"license: {license_name}", "tags:", *(f"- {tag}" for tag in tags), "---", ""]
    text = card.read_text("utf-8")
    if not text.startswith("---\n"):
        card.write_text("\n".join(front) + "\n" + text, encoding="utf-8")
    endpoint, token = (os.environ.get(name) or None for name in HUB_VARIABLES)
    api = HfApi(endpoint=endpoint, token=token)
    try:
        api.create_repo(repo, private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=publication.folder,
            commit_message=f"{publication.run.run_id}, digest {publication.digest[:12]}",
        )
    except HFValidationError as error:
        raise ConfigError(
            f"{repo!r} is no repository's name: {error}.", "Write: --into OWNER/NAME"
        ) from error
    except HfHubHTTPError as error:
        raise PushRejected(
            f"The hub refused {repo}: {str(error).splitlines()[0]}",
            "Check the token (HF_TOKEN) and that it may write there.",
        ) from error
    return Publication(**{**vars(publication), "where": str(commit.commit_url or repo)})


def has_network(files: Sequence[str]) -> bool:
    """Whether torch weights are among them, and not only plain numbers."""
    return any(name.endswith((".pt", ".pth")) for name in files)


def publish_model(
    bench: Workbench,
    name: str,
    target: str,
    *,
    into: str | None,
    license_name: str | None,
    public: bool,
    force: bool,
) -> Publication:
    """Choose a run, look at the deadline, gather, publish.

    Args:
        into: A folder, or a hub's OWNER/NAME.

    Raises:
        ConfigError: Too early, nothing to publish, or an option is missing.
    """
    run = choose_run(bench, name)
    if not force:
        check_deadline(bench, run, datetime.now(UTC))
    if target != "folder" and not license_name:
        raise ConfigError(
            "A published model needs a licence that its data and its backbone's weights allow.",
            "For example: --license 'Apache 2.0' (Kaggle's names) or --license apache-2.0 (the hub's).",
        )
    if target == "huggingface" and not into:
        raise ConfigError("A hub needs the repository's name.", "Write: --into OWNER/NAME")
    # Another publication of this run would gather into the same folder.
    with bench.locked(f"publication-{run.run_id}"):
        made = gather(bench, run)
        if target == "kaggle-models":
            return to_kaggle_models(bench, made, str(license_name), public=public)
        if target == "huggingface":
            tags = ("image-classification", "chest-x-ray", run.spec.strategy)
            return to_hub(made, str(into), str(license_name), public=public, tags=tags)
        return to_folder(made, Path(into or f"published/{run.run_id}"))

"""Dataset folders: code, weights, checkpoints and wheels, with a manifest that both ends compare.

A folder below ``datasets/`` is one dataset, so that what changes often is sent without what does not.
It holds its payload, ``dataset-metadata.json``, a README and ``PACKAGE_MANIFEST.json`` with the content
digest. The digest is over names and hashes of the payload: equal content is recognised whoever built it
and whenever. Nothing is sent from here; see publishing.py.
"""

import contextlib
import filecmp
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.hashing import SKIPPED_FOLDERS, look
from harness.records import DatasetBuild, slugify, text_digest, to_json
from harness.settings import Settings
from harness.vetting import Vetting, check_distinct
from harness.workbench import git_state
from kernels.config import weights_slug
from kernels.contract import write_json

LOGGER = logging.getLogger(__name__)

MANIFEST = "PACKAGE_MANIFEST.json"  # kernels/blocks/paths.py looks for the same name
METADATA = "dataset-metadata.json"
README = "README.md"
ABOUT = "about.json"  # where weights are from; part of the payload
RESERVED = frozenset(
    {
        MANIFEST, METADATA, README, "datapackage.json", "kernel-metadata.json", "model-metadata.json",
        "model-instance-metadata.json", "dataset-cover-image.jpg", "dataset-cover-image.png",
    }
)  # fmt: skip
README_MARK = "<!-- written by harness package -->"

CODE_SLUG = "harness-kernels-code"
KINDS = ("weights", "checkpoints", "wheels")  # the first word of a slug
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")
SLUG_FORM = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
NO_OWNER = "INSERT_OWNER"  # what the official client writes until the account is known

# Names that the service knows; other licences are "other" there and spelled out in the README.
LICENSES = frozenset(
    (
        "CC0-1.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-NC-SA-4.0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-3.0",
        "CC-BY-3.0-IGO", "GPL-2.0", "ODbL-1.0", "DbCL-1.0", "PDDL", "copyright-authors", "other", "unknown",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Packer:
    """Makes dataset folders of one workspace."""

    workspace: Path
    datasets_folder: Path
    indexes: Path | None = None  # where indexes of hashes are kept; None: every file is read
    owner: str | None = None  # for dataset-metadata.json, when known
    rehash: bool = False

    def code(self) -> DatasetBuild:
        """The kernels package: what scripts are rendered from, and the body of thin ones."""
        folder = self.datasets_folder / CODE_SLUG
        with self._alone():
            sync_tree(
                self.workspace / "kernels", folder / "kernels", Vetting(folder, self.workspace)
            )
            commit, dirty = git_state(self.workspace)
            return self.build(
                CODE_SLUG,
                "The package that kernel scripts are rendered from, for reading and for notebooks, and the body "
                "of thin scripts (bundle = dataset).",
                title="Harness kernels code",
                producer={"commit": commit, "uncommitted_changes": dirty},
            )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process of this workspace copies the code at the same time, whatever its remote."""
        if self.indexes is None:
            yield
            return
        from filelock import FileLock

        self.indexes.mkdir(parents=True, exist_ok=True)
        with FileLock(self.indexes / "code.lock"):
            yield

    def weights(self, backbone: str) -> DatasetBuild | None:
        """Pretrained weights of a timm backbone, or None when this machine has no source.

        A folder that was built before is used as it is. Otherwise the weights come from an installed
        package; nothing is downloaded (harness weights add does that).

        Raises:
            ConfigError: The conversion failed although a source is installed.
        """
        folder = self.datasets_folder / weights_slug(backbone)
        if weights_file(folder, backbone) is None and not export_installed(
            self.workspace, folder, backbone
        ):
            return None
        return self.folder(folder.name)

    def folder(self, slug: str) -> DatasetBuild:
        """A dataset whose payload somebody put into ``datasets/<slug>``.

        Title, licence and further entries of a dataset-metadata.json that is there are kept, and so is a
        README that is not ours.

        Raises:
            ConfigError: There is no such folder or nothing in it; something in it must not be published;
                or its metadata is not valid.
        """
        folder = self.datasets_folder / slug
        if not folder.is_dir():
            known = ", ".join(self.slugs()) or "none yet"
            raise ConfigError(
                f"There is no folder {folder}.",
                f"Put the files there first. Folders that are there: {known}.",
            )
        about = read_about(folder / ABOUT)
        if kind_of(slug) == "weights":
            text = f"Weights of timm's `{about.get('backbone', slug)}`, converted without change."
        else:
            text = str(about.get("about", f"Files of `{slug}`."))
        facts = {key: value for key, value in about.items() if key != "about"}
        if facts:
            text += "\n\n" + "\n".join(f"- {key}: {_plain(facts[key])}" for key in sorted(facts))
        return self.build(slug, text, producer=about.get("producer", {}))

    def slugs(self) -> list[str]:
        """Folders below ``datasets/`` that hold something, sorted."""
        if not self.datasets_folder.is_dir():
            return []
        return sorted(
            path.name
            for path in self.datasets_folder.iterdir()
            if path.is_dir() and not path.name.startswith(".") and any(path.iterdir())
        )

    def build(
        self,
        slug: str,
        about: str,
        *,
        title: str | None = None,
        producer: Mapping[str, Any] | None = None,
    ) -> DatasetBuild:
        """Hash a folder's payload; write manifest, metadata and README beside it where they changed."""
        folder = self.datasets_folder / slug
        name = f"{slug}-{text_digest(str(folder.resolve()))[:8]}.json"
        return build_dataset(
            folder,
            slug,
            title or slug.replace("-", " "),
            "other",
            about,
            workspace=self.workspace,
            index=None if self.indexes is None else self.indexes / name,
            rehash=self.rehash,
            owner=self.owner,
            producer=producer,
        )


def packer_for(settings: Settings, *, owner: str | None = None, rehash: bool = False) -> Packer:
    """The packer of a workspace, with its indexes in the state folder."""
    return Packer(
        settings.workspace,
        settings.datasets_folder,
        settings.cache_folder / "hashes",
        owner or settings.owner,
        rehash,
    )


def wheels_slug(strategy: str) -> str:
    """Slug of the dataset with the wheels that a strategy's kernel installs."""
    return slugify(f"wheels-{strategy}")


def kind_of(slug: str) -> str:
    """What a dataset is, by the first word of its slug."""
    if slug == CODE_SLUG:
        return "code"
    return next((kind for kind in KINDS if slug.startswith(f"{kind}-")), "data")


def build_dataset(
    folder: Path,
    slug: str,
    title: str,
    license_name: str,
    about: str,
    *,
    workspace: Path | None = None,
    index: Path | None = None,
    rehash: bool = False,
    owner: str | None = None,
    producer: Mapping[str, Any] | None = None,
) -> DatasetBuild:
    """Describe a folder's payload and write its manifest, metadata and README beside it.

    Args:
        folder: Holds the payload; hidden files and Python caches are left out.
        about: The README's text.
        workspace: Whose ignore file counts too.
        index: Where hashes of unchanged files are remembered.
        producer: What made the payload: a commit, or a run with its kernel version.

    Raises:
        ConfigError: The folder is empty, holds what must not be published, or its metadata is not valid.
    """
    try:
        metadata = _metadata(folder / METADATA, slug, title, license_name, owner)
        vetting = Vetting(folder, workspace)
        contents = look(
            folder, index, rule=vetting, rules=vetting.rules, reserved=RESERVED, rehash=rehash
        )
        files = contents.files
        if not files:
            raise ConfigError(f"{folder} holds no file to publish.", "Put its payload there.")
        check_distinct((file.path for file in files), folder)
        build = DatasetBuild(
            slug=slug,
            title=metadata["title"],
            folder=folder,
            files=files,
            license=metadata["licenses"][0]["name"],
            digest=contents.digest,
            kind=kind_of(slug),
            read=contents.read,
        )
        _write_if_other(folder / METADATA, _json(metadata))
        _write_if_other(
            folder / MANIFEST,
            _json(
                {
                    "slug": slug,
                    "kind": build.kind,
                    "digest": build.digest,
                    "producer": dict(producer or {}),
                    "files": to_json(files),
                }
            ),
        )
        _write_readme(build, about)
    except OSError as error:
        raise disk_error(folder, error) from error
    return build


def disk_error(place: Path, error: OSError) -> ConfigError:
    """What the disk refused, as a user can put it right."""
    return ConfigError(
        f"{error.filename or place}: {error.strerror or error}.",
        "Nothing was published. Make room or put the permissions right, then run the same command again.",
    )


def sync_tree(source: Path, target: Path, vetting: Vetting) -> None:
    """Make ``target`` hold what ``source`` does, touching only files that differ.

    Raises:
        ConfigError: A file must not be published, or the disk refused it.
    """
    try:
        wanted = set()
        for path in sorted(source.rglob("*")):
            relative = path.relative_to(source)
            hidden = any(part.startswith(".") for part in relative.parts)
            if hidden or SKIPPED_FOLDERS & set(relative.parts) or not path.is_file():
                continue
            if not vetting((target.name / relative).as_posix(), path):
                continue
            wanted.add(relative)
            copy = target / relative
            if not copy.is_file() or not filecmp.cmp(path, copy, shallow=False):
                copy.parent.mkdir(parents=True, exist_ok=True)
                draft = copy.with_name(f".{copy.name}.part")
                shutil.copyfile(path, draft)
                draft.replace(copy)
        for path in sorted(target.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.relative_to(target) not in wanted:
                path.unlink()
    except OSError as error:
        raise disk_error(target, error) from error


# ---- weights -------------------------------------------------------------------------------------


def weights_file(folder: Path, backbone: str) -> Path | None:
    """The weights in a dataset folder as a kernel would find them; None when there are none."""
    for suffix in WEIGHT_SUFFIXES:
        path = folder / f"{backbone}{suffix}"
        if path.is_file():
            return path
    others = [path for path in sorted(folder.glob("*")) if path.suffix in WEIGHT_SUFFIXES]
    return others[0] if len(others) == 1 else None


def export_installed(workspace: Path, folder: Path, backbone: str) -> bool:
    """Convert weights from an installed package into a dataset folder; False without such a package.

    Raises:
        ConfigError: The conversion failed although a source is installed.
    """
    done = run_kernels_code(
        workspace,
        folder / f"{backbone}.safetensors",
        "from kernels.blocks.weights import export_weights; "
        "print(json.dumps(export_weights(sys.argv[1], Path(sys.argv[2]))))",
        backbone,
    )
    if done is None:
        return True
    LOGGER.info("no weights of %s on this machine: %s", backbone, done[-300:])
    if "FileNotFoundError" in done or "ModuleNotFoundError" in done:
        return False
    raise ConfigError(
        f"Weights of {backbone} could not be converted: {done.strip().splitlines()[-1]}"
    )


def run_kernels_code(
    workspace: Path, payload: Path, code: str, *arguments: str, offline: bool = True
) -> str | None:
    """Run code of the kernels package that writes weights, in a process of its own: it needs torch.

    Args:
        payload: The file to make; the code gets a scratch path after the first argument. The facts that
            it prints as its last line, a JSON object, become ``about.json`` beside it.
        arguments: What the code finds in sys.argv, the backbone first.
        offline: Forbid the model hub: a push downloads nothing by surprise.

    Returns:
        None when it worked, else the process's last words.
    """
    folder = payload.parent
    made_folder = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
            made = Path(scratch) / payload.name
            first, *others = arguments
            done = subprocess.run(
                [sys.executable, "-c", f"import json, sys; from pathlib import Path; {code}"]
                + [first, str(made), *others],
                cwd=workspace,
                env={**os.environ, **({"HF_HUB_OFFLINE": "1"} if offline else {})},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0 and made.is_file():
                write_json(folder / ABOUT, json.loads(done.stdout.splitlines()[-1]))
                made.replace(payload)
                return None
    except OSError as error:
        raise disk_error(folder, error) from error
    if made_folder:
        shutil.rmtree(folder, ignore_errors=True)
    return done.stderr or f"exit code {done.returncode}"


# ---- what stands beside the payload --------------------------------------------------------------


def _metadata(
    path: Path, slug: str, title: str, license_name: str, owner: str | None
) -> dict[str, Any]:
    """dataset-metadata.json as it shall be: what is there where it is valid, else what is given."""
    found: dict[str, Any] = {}
    if path.is_file():
        try:
            found = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path} is no JSON: {error}.", "Mend it or remove it.") from error
        if not isinstance(found, dict):
            raise ConfigError(f"{path} holds no object.", "Mend it or remove it.")
    if found.get("isPrivate", True) is not True or found.get("is_private", True) is not True:
        raise ConfigError(
            f"{path} asks for a public dataset; harness publishes private ones only.",
            "Remove the entry; make a dataset public on its page.",
        )
    listed = str(found.get("id", "")).rpartition("/")
    if listed[2] not in ("", slug):
        raise ConfigError(
            f"{path} has the id {found['id']!r}; the folder is {slug!r}.", "Make them equal."
        )
    known_owner = listed[0] if listed[0] != NO_OWNER else ""
    metadata = {
        **found,
        "id": f"{owner or known_owner or NO_OWNER}/{slug}",
        "title": found.get("title", title),
        "licenses": found.get("licenses", [{"name": license_name}]),
    }
    faults = metadata_faults(metadata)
    if faults:
        raise ConfigError(
            f"{path}: {faults[0]}.", "The service would refuse it: mend it or rename the folder."
        )
    return metadata


def metadata_faults(metadata: Mapping[str, Any]) -> list[str]:
    """What the service would refuse in a dataset's metadata."""
    faults = []
    slug = str(metadata.get("id", "")).rpartition("/")[2]
    if not 6 <= len(slug) <= 50 or not SLUG_FORM.fullmatch(slug):
        faults.append(
            f"the slug {slug!r} must have 6 to 50 of a-z, 0-9 and single dashes (it is the folder's name)"
        )
    title = metadata.get("title")
    if not isinstance(title, str) or not 6 <= len(title) <= 50:
        faults.append(f"the title {title!r} must have 6 to 50 characters")
    subtitle = metadata.get("subtitle")
    if subtitle and not 20 <= len(str(subtitle)) <= 80:
        faults.append(f"the subtitle {subtitle!r} must have 20 to 80 characters")
    licenses = metadata.get("licenses")
    names = (
        [str(item.get("name")) for item in licenses if isinstance(item, dict)]
        if isinstance(licenses, list)
        else []
    )
    if len(names) != 1 or names[0] not in LICENSES:
        faults.append(
            f"licenses must be one of {', '.join(sorted(LICENSES))}, as [{{'name': ...}}]"
        )
    return faults


def _write_readme(build: DatasetBuild, about: str) -> None:
    path = build.folder / README
    if path.is_file() and README_MARK not in path.read_text("utf-8", errors="replace"):
        return  # somebody wrote one
    rows = "\n".join(
        f"| `{file.path}` | {file.size:,} | `{file.sha256[:12]}` |" for file in build.files[:100]
    )
    more = f"\n\n... and {len(build.files) - 100} more" if len(build.files) > 100 else ""
    _write_if_other(
        path,
        f"{README_MARK}\n# {build.title}\n\n{about}\n\nContent digest `{build.digest}`; every hash is in "
        f"`{MANIFEST}`.\n\n| file | bytes | sha256 |\n| --- | ---: | --- |\n{rows}{more}\n",
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _write_if_other(path: Path, text: str) -> None:
    if path.is_file() and path.read_text("utf-8", errors="replace") == text:
        return
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def read_about(path: Path) -> dict[str, Any]:
    """A dataset folder's record; empty when there is none (ConfigError when it cannot be read)."""
    try:
        about = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}.", "Mend it or remove it.") from error
    return about if isinstance(about, dict) else {}


def about_or_nothing(folder: Path) -> dict[str, Any]:
    """A dataset folder's record; empty also when it cannot be read."""
    try:
        return read_about(folder / ABOUT)
    except (OSError, ConfigError):
        return {}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)

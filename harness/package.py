"""Dataset folders: code and pretrained weights, with a manifest that both ends compare.

A folder holds its payload, ``dataset-metadata.json``, a README and ``PACKAGE_MANIFEST.json`` with the
content digest. The digest is over names and hashes of the payload, so equal content is recognised
whoever built it and whenever. Publishing asks the remote first and verifies by listing afterwards.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from harness.errors import ConfigError, PushRejected
from harness.ledger import Ledger
from harness.records import DatasetBuild, Handle, PackedFile, text_digest, to_json
from harness.remote import KaggleRemote
from kernels.config import weights_slug
from kernels.contract import sha256_file, write_json

LOGGER = logging.getLogger(__name__)

MANIFEST = "PACKAGE_MANIFEST.json"  # kernels/blocks/paths.py looks for the same name
METADATA = "dataset-metadata.json"
README = "README.md"
CODE_SLUG = "harness-kernels-code"
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # archives of equal content are equal bytes


def build_dataset(
    folder: Path, slug: str, title: str, license_name: str, about: str
) -> DatasetBuild:
    """Describe a folder's payload and write its manifest, metadata and README beside it.

    Args:
        folder: Holds the payload; hidden files and Python caches are left out.
        about: The README's text.
    """
    skip = {MANIFEST, METADATA, README}
    files = tuple(
        PackedFile(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_file(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.relative_to(folder).as_posix() not in skip
        and not any(
            part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts
        )
    )
    digest = text_digest(*(f"{file.path} {file.sha256}" for file in files))
    (folder / README).write_text(f"# {title}\n\n{about}\n", encoding="utf-8")
    write_json(
        folder / METADATA,
        {"id": f"INSERT_OWNER/{slug}", "title": title, "licenses": [{"name": license_name}]},
    )
    write_json(folder / MANIFEST, {"slug": slug, "digest": digest, "files": to_json(files)})
    return DatasetBuild(slug, title, folder, files, license_name, digest)


def build_code(workspace: Path, datasets_folder: Path) -> DatasetBuild:
    """The kernels package as a dataset: the record of what scripts are rendered from."""
    folder = datasets_folder / CODE_SLUG
    shutil.rmtree(folder / "kernels", ignore_errors=True)
    shutil.copytree(
        workspace / "kernels",
        folder / "kernels",
        ignore=shutil.ignore_patterns("__pycache__", ".*"),
    )
    return build_dataset(
        folder,
        CODE_SLUG,
        "Harness kernels code",
        "other",
        "The package that kernel scripts are rendered from, for reading and for notebooks.",
    )


def build_weights(workspace: Path, datasets_folder: Path, backbone: str) -> DatasetBuild | None:
    """Pretrained weights of a timm backbone as a dataset, or None when this machine has no source.

    A folder that was built before is used as it is. Otherwise the weights come from an installed
    package; converting them needs torch, which runs in a process of its own.

    Raises:
        ConfigError: The conversion failed although a source is installed.
    """
    slug = weights_slug(backbone)
    folder = datasets_folder / slug
    payload = folder / f"{backbone}.safetensors"
    title = slug.replace("-", " ")
    about_file = folder / "about.json"
    if not payload.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / payload.name
            code = (
                "import json, sys; from pathlib import Path; "
                "from kernels.blocks.weights import export_weights; "
                "print(json.dumps(export_weights(sys.argv[1], Path(sys.argv[2]))))"
            )
            done = subprocess.run(
                [sys.executable, "-c", code, backbone, str(made)],
                cwd=workspace,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},  # a push downloads nothing by surprise
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0 or not made.is_file():
                LOGGER.info(
                    "no weights of %s on this machine: %s", backbone, done.stderr.strip()[-300:]
                )
                if "FileNotFoundError" in done.stderr or "ModuleNotFoundError" in done.stderr:
                    shutil.rmtree(folder, ignore_errors=True)
                    return None
                raise ConfigError(
                    f"Weights of {backbone} could not be converted: {done.stderr.strip().splitlines()[-1]}"
                )
            write_json(about_file, json.loads(done.stdout.splitlines()[-1]))
            made.replace(payload)
    about = json.loads(about_file.read_text("utf-8")) if about_file.is_file() else {}
    return build_dataset(
        folder,
        slug,
        title,
        "other",
        f"Weights of timm's `{backbone}`, converted without change.\n\n"
        + "\n".join(f"- {key}: {value}" for key, value in sorted(about.items())),
    )


def publish(
    build: DatasetBuild,
    remote: KaggleRemote,
    ledger: Ledger,
    owner: str,
    progress: Callable[[str], None],
    wait: bool = True,
) -> int | None:
    """Make the remote's current version hold this build; its version number.

    Nothing is sent when it already does, and an earlier publish that was cut off is recognised by the
    digest in the remote's manifest. With ``wait=False`` a version that is still processing is left to
    itself and None is returned.

    Raises:
        PushRejected: The service refused, or the published listing lacks files.
    """
    handle = Handle(owner, build.slug)
    known = ledger.dataset_version(remote.name, str(handle), build.digest)
    current = remote.dataset_version(handle)
    if known is not None and known == current:
        return known
    if current and _remote_digest(remote, handle) == build.digest:
        ledger.dataset_confirmed(remote.name, str(handle), build.digest, current)
        return current
    ledger.dataset_intent(remote.name, str(handle), build.digest)
    progress(f"dataset {handle}: sending {build.size / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory() as scratch:
        uploads = _uploads(build, Path(scratch))
        if current is None:
            remote.create_dataset(handle, build, uploads)
        else:
            remote.create_dataset_version(handle, uploads, notes=f"digest {build.digest}")
    if not wait:
        return None
    version = remote.wait_for_dataset(handle, current or 0, progress)
    listed = remote.dataset_files(Handle(owner, build.slug, version))
    for file in build.files:
        if listed.get(file.path) != file.size:
            raise PushRejected(
                f"Dataset {handle} version {version}: {file.path} has {listed.get(file.path)} bytes there, "
                f"{file.size} here.",
                "Run the same command again to publish it anew.",
            )
    ledger.dataset_confirmed(remote.name, str(handle), build.digest, version)
    progress(f"dataset {handle}: version {version} is current")
    return version


def _remote_digest(remote: KaggleRemote, handle: Handle) -> str | None:
    text = remote.dataset_text(handle, MANIFEST)
    try:
        return str(json.loads(text)["digest"]) if text else None
    except (ValueError, KeyError, TypeError):
        return None


def _uploads(build: DatasetBuild, scratch: Path) -> list[Path]:
    """Top-level files as they are; each folder as one stored zip, which the service unpacks."""
    tops = sorted({file.path.split("/")[0] for file in build.files})
    uploads = [build.folder / MANIFEST, build.folder / README]
    for top in tops:
        source = build.folder / top
        if source.is_file():
            uploads.append(source)
            continue
        archive = scratch / f"{top}.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
            for file in build.files:
                if file.path.startswith(top + "/"):
                    entry = zipfile.ZipInfo(file.path[len(top) + 1 :], ZIP_EPOCH)
                    packed.writestr(entry, (build.folder / file.path).read_bytes())
        uploads.append(archive)
    return uploads

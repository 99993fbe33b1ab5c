"""What a script takes from packaged datasets before its imports: the code itself, or wheels it lacks.

Rendered above everything else, so standard library only. Both compare the digest that was baked in with
the mounted manifest first: a stale dataset stops the kernel before it has done anything.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from kernels.blocks.paths import DATASET_MANIFEST, check_datasets, kaggle_paths


def payload_digest(folder: Path) -> str:
    """The content digest of a mounted dataset, computed from the files that its manifest lists.

    Raises:
        ValueError: A file is not what the manifest says.
    """
    total = hashlib.sha256()
    manifest = json.loads((folder / DATASET_MANIFEST).read_text(encoding="utf-8"))
    for entry in manifest["files"]:
        found = hashlib.sha256((folder / entry["path"]).read_bytes()).hexdigest()
        if found != entry["sha256"]:
            raise ValueError(f"dataset {folder.name!r}: {entry['path']} differs from its manifest")
        line = f"{entry['path']} {found}".encode()
        total.update(f"{len(line)}:".encode() + line)
    return total.hexdigest()


def use_mounted_code(slug: str, digest: str) -> None:
    """Make the kernels package of a mounted code dataset the one that is imported.

    Raises:
        FileNotFoundError, ValueError: See check_datasets; ValueError also when its files were altered.
    """
    folder = check_datasets(kaggle_paths(), {slug: digest})[slug]
    found = payload_digest(folder)
    if found != digest:
        raise ValueError(
            f"dataset {slug!r}: its files have digest {found[:12]}, the script was rendered for {digest[:12]}"
        )
    sys.path.insert(0, str(folder))
    print(f"code from dataset {slug}, digest {digest[:12]}", flush=True)


def install_wheels(slug: str, digest: str) -> None:
    """Install every wheel of a mounted dataset, without an index, into a folder that is imported first.

    The folder is of this session; a script that starts again, or its workers, find it there. The image's
    own packages stay where they are; what is in the folder is found before them.

    Raises:
        FileNotFoundError, ValueError: See check_datasets.
        RuntimeError: pip refused; the message has its last line.
    """
    paths = kaggle_paths()
    folder = check_datasets(paths, {slug: digest})[slug]
    target = paths.temp / f"wheels-{digest[:12]}"
    wheels = sorted(str(path) for path in folder.rglob("*.whl"))
    if not target.is_dir():
        draft = target.with_name(f"{target.name}.{os.getpid()}")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        command += ["--disable-pip-version-check", "--find-links", str(folder)]
        done = subprocess.run(
            [*command, "--target", str(draft), *wheels], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise RuntimeError(f"wheels of dataset {slug!r} cannot be installed: {''.join(said)}")
        if not target.is_dir():
            draft.rename(target)
        print(f"installed {len(wheels)} wheels of dataset {slug}", flush=True)
    sys.path.insert(0, str(target))

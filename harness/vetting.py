"""What may go into a dataset: nothing secret, no competition data, only names that survive the upload.

Datasets are private, but a key in one still leaves this machine, and rules forbid to pass on a
competition's films. A refusal names the file and the reason; what ``.kaggleignore`` lists (in the form of
.gitignore, in the workspace or in the dataset's folder) is left out without a word.
"""

import re
import zipfile
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from harness.errors import ConfigError
from harness.records import text_digest

IGNORE_FILE = ".kaggleignore"
RULES_VERSION = "2"  # part of an index's rules: a changed rule looks at every file again
SNIFF_BYTES = 1 << 20  # of each end of a file

SECRET_NAMES = (
    "kaggle.json", "access_token", "access_token.txt", "credentials.json", ".env", ".env.*", "*.env", ".netrc",
    "_netrc", ".pypirc", ".git-credentials", ".htpasswd", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "*.pem",
    "*.key", "*.p12", "*.pfx", "*.ppk", "*.jks", "*.keystore", "*.kdbx", "*service-account*.json",
)  # fmt: skip
# Templates that projects commit on purpose.
HARMLESS_NAMES = (".env.example", ".env.sample", ".env.template")

# Each with what it is called in the refusal. Lengths are those of real ones, so that prose passes.
SECRET_CONTENT = (
    ("a private key", re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----")),
    ("a Kaggle token", re.compile(rb"KGAT_[0-9A-Za-z_]{16,}")),
    ("a Kaggle key", re.compile(rb"""["']?key["']?\s*[:=]\s*["'][0-9a-f]{32}["']""")),
    ("a Hugging Face token", re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b")),
    ("a GitHub token", re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{50,})\b")),
    ("an AWS key", re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a Google API key", re.compile(rb"\bAIza[0-9A-Za-z_-]{35}\b")),
    ("a Slack token", re.compile(rb"\bxox[abprs]-[0-9A-Za-z-]{20,}")),
    ("an API key", re.compile(rb"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}\b")),
    ("a Weights & Biases key", re.compile(rb"WANDB_API_KEY\W{1,4}[0-9a-f]{40}\b")),
)

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".dcm", ".dicom", ".nii", ".mha", ".mhd")
)  # fmt: skip
IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*")
COMPETITION_TABLES = frozenset({"sample_submission.csv", "solution.csv"})

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


class Vetting:
    """The rule of one dataset folder, for hashing.look."""

    def __init__(self, folder: Path, workspace: Path | None = None) -> None:
        """Read the ignore files: the workspace's, then the folder's own, which has the last word."""
        self.folder = folder
        lines: list[str] = []
        for place in dict.fromkeys(filter(None, (workspace, folder))):
            path = place / IGNORE_FILE
            if path.is_file():
                lines += path.read_text("utf-8", errors="replace").splitlines()
        self._lines = lines
        self._ignored = None
        if lines:
            from pathspec import GitIgnoreSpec

            try:
                self._ignored = GitIgnoreSpec.from_lines(lines)
            except ValueError as error:
                raise ConfigError(f"{IGNORE_FILE} cannot be read: {error}.") from error

    @property
    def rules(self) -> str:
        """Changes when the rules do."""
        return text_digest(RULES_VERSION, *self._lines)

    def __call__(self, path: str, file: Path) -> bool:
        """True to pack a file, False to leave it out.

        Args:
            path: POSIX path below the dataset's folder.
            file: The same on this disk.

        Raises:
            ConfigError: It must not be published, or its name would not survive.
        """
        if self._ignored is not None and self._ignored.match_file(path):
            return False
        pure = PurePosixPath(path)
        refuse_secret_name(pure, str(file))
        if file.is_symlink():
            target = PurePosixPath(file.resolve())
            refuse_secret_name(target, f"{file} -> {target}")
            refuse_competition_name(target, f"{file} -> {target}")
        if pure.name.startswith("."):
            return False
        refuse_competition_name(pure, str(file))
        check_name(pure, str(file))
        refuse_content(file)
        return True


def _ignore_hint(path: str) -> str:
    return f"Move it away, or list it in {IGNORE_FILE}: {PurePosixPath(path).name}"


def refuse_secret_name(path: PurePosixPath, shown: str) -> None:
    """Refuse names under which people keep secrets (ConfigError)."""
    name = path.name.lower()
    if any(fnmatchcase(name, pattern) for pattern in SECRET_NAMES) and name not in HARMLESS_NAMES:
        raise ConfigError(f"{shown} looks like a secret: it is never uploaded.", _ignore_hint(name))


def refuse_competition_name(path: PurePosixPath, shown: str) -> None:
    """Refuse images and a competition's own tables (ConfigError)."""
    name = path.name.lower()
    if path.suffix.lower() in IMAGE_SUFFIXES or name.endswith(".nii.gz"):
        raise ConfigError(
            f"{shown} is an image: competition data is never packaged.", _ignore_hint(path.name)
        )
    if name in COMPETITION_TABLES:
        raise ConfigError(
            f"{shown} is a competition's table: its data is never packaged.",
            _ignore_hint(path.name),
        )


def check_name(path: PurePosixPath, shown: str) -> None:
    """Refuse names that the service rejects after the upload, or unpacks (ConfigError)."""
    for part in path.parts:
        if not SAFE_NAME.fullmatch(part) or len(part) > 200:
            raise ConfigError(
                f"{shown!r}: the service does not keep the name {part!r}.",
                "Use letters, digits and . _ - + (not at the start), at most 200 of them.",
            )
    if path.name.lower().endswith(ARCHIVE_SUFFIXES):
        raise ConfigError(
            f"{shown}: the service unpacks archives, so that nobody could check what arrives.",
            "Put its content there instead.",
        )


def check_distinct(paths: Iterable[str], shown: Path) -> None:
    """Refuse two names that differ in case only: some file systems keep one of them (ConfigError)."""
    seen: dict[str, str] = {}
    for path in paths:
        twin = seen.setdefault(path.lower(), path)
        if twin != path:
            raise ConfigError(f"{shown}: {twin} and {path} differ in case only.", "Rename one.")


def refuse_content(file: Path) -> None:
    """Refuse secrets and images under other names, also those inside zip files (ConfigError)."""
    with file.open("rb") as handle:
        start = handle.read(SNIFF_BYTES)
        size = handle.seek(0, 2)
        end = b""
        if size > SNIFF_BYTES:
            handle.seek(max(SNIFF_BYTES, size - SNIFF_BYTES))
            end = handle.read(SNIFF_BYTES)
    for what, pattern in SECRET_CONTENT:
        if pattern.search(start) or pattern.search(end):
            raise ConfigError(
                f"{file} holds what looks like {what}: it is never uploaded.",
                _ignore_hint(file.name),
            )
    if start.startswith(IMAGE_STARTS) or start[128:132] == b"DICM":
        raise ConfigError(
            f"{file} is an image by its content: competition data is never packaged.",
            _ignore_hint(file.name),
        )
    # Wheels are public, and some carry certificates or icons.
    if start.startswith(b"PK") and file.suffix != ".whl" and zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                inner = PurePosixPath(name)
                refuse_secret_name(inner, f"{file} ({name})")
                refuse_competition_name(inner, f"{file} ({name})")

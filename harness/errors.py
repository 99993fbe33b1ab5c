"""What can go wrong, sorted by what the user does next.

Each message carries the fact and the item; ``hint`` carries the next step. ``cli.py`` prints both
as one line and exits with code 1. A fault in harness itself is no HarnessError: it keeps its
traceback.
"""

import errno
import re


class HarnessError(Exception):
    """Root of everything a user can put right. ``str()`` is the message, then the hint."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class ConfigError(HarnessError):
    """Edit a setting, a strategy, a competition or the command line."""


class BundleError(HarnessError):
    """Edit the module of ``kernels`` that the message names: it cannot become part of a script."""


class PushRejected(HarnessError):
    """The remote said no to a kernel or dataset: read its reason, change what was sent."""


class RunFailed(HarnessError):
    """A kernel ended without its results: read the log that the message names."""


class ContractError(HarnessError):
    """A run's outputs are incomplete or altered: pull again, or run it again."""


class BlendError(HarnessError):
    """These runs cannot be blended: choose other members or run the missing ones."""


class SubmissionInvalid(HarnessError):
    """The submission file would be refused: fix the rows that the message names."""


class RemoteUnavailable(HarnessError):
    """The remote did not answer, or not in time: try again; nothing was half-done."""


class MachineFault(HarnessError):
    """The machine could not do it (no space, no permission): put that right and run it again."""


AGAIN = "Then run the same command again: it goes on from here."
# What to do about an operating system's refusal, by errno.
REMEDIES = {
    errno.ENOSPC: "Free some space.",
    errno.EDQUOT: "Free some of your quota.",
    errno.EFBIG: "Raise the limit on file sizes (ulimit -f).",
    errno.EROFS: "The file system is read-only: choose another place.",
    errno.EACCES: "Check the permissions.",
    errno.EPERM: "Check the permissions.",
    errno.EIO: "Check the disk.",
    errno.EMFILE: "Raise the limit on open files (ulimit -n).",
    errno.ENFILE: "Close some programs.",
    errno.ENOMEM: "Close some programs.",
    errno.EAGAIN: "Close some programs.",
    errno.ENAMETOOLONG: "Choose shorter names.",
}


def machine_fault(error: BaseException) -> MachineFault | None:
    """An error of the operating system or the database as one line; None for anything else."""
    if type(error).__module__ == "sqlite3" and type(error).__name__ == "OperationalError":
        return MachineFault(
            f"A database could not be written: {error}.", f"Free some space. {AGAIN}"
        )
    if isinstance(error, OSError) and error.errno is None and error.args:
        # shutil.Error holds a list of (source, target, reason): the first tells enough.
        first = (
            error.args[0][0] if isinstance(error.args[0], list) and error.args[0] else error.args
        )
        found = re.search(r"\[Errno (\d+)\] (.*)", str(first[-1]))
        if found is None:
            return None
        return MachineFault(f"{found[2]}.", f"{REMEDIES.get(int(found[1]), '')} {AGAIN}".strip())
    if isinstance(error, OSError) and error.errno in REMEDIES:
        where = f": {error.filename}" if error.filename else ""
        return MachineFault(f"{error.strerror}{where}.", f"{REMEDIES[error.errno]} {AGAIN}")
    return None

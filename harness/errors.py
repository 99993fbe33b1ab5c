"""What can go wrong, sorted by what the user does next.

Each message carries the fact and the item; ``hint`` carries the next step. ``cli.py`` prints both
as one line and exits with code 1. A fault in harness itself is no HarnessError: it keeps its
traceback.
"""


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

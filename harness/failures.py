"""Why a run failed, as far as the service's words and the log tell: a kind, a cause, and what to do next.

Pure text in, record out. Kinds are told apart by what one does next; the newest line that names a cause
wins, since Python prints the innermost error last.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from harness.records import RunState


class FailureKind(StrEnum):
    """What went wrong, by what to do about it."""

    TRANSIENT = "transient"  # the service's own trouble
    QUOTA = "quota"
    REJECTED = "rejected"  # nothing ran
    KERNEL_ERROR = "kernel error"
    OUT_OF_MEMORY = "out of memory"
    TIME_LIMIT = "time limit"
    CANCELLED = "cancelled"
    STUCK = "stuck"
    VANISHED = "vanished"


NEXT_STEPS = {
    FailureKind.TRANSIENT: "Push again.",
    FailureKind.QUOTA: "Push again when there is room: hours come back on Saturday, 00:00 UTC.",
    FailureKind.REJECTED: "Change what the message names, then push again.",
    FailureKind.KERNEL_ERROR: "Read the log, mend the code, push again; rehearse with: harness dry-run",
    FailureKind.OUT_OF_MEMORY: "Make the batch or the images smaller (--set), then push again.",
    FailureKind.TIME_LIMIT: "Train fewer folds or epochs in one run (--fold, --set), then push again.",
    FailureKind.CANCELLED: "Push again to start it anew.",
    FailureKind.STUCK: "Look at it on its page and cancel it there; then push with --force.",
    FailureKind.VANISHED: "It may have been deleted there. Push again.",
}

# The service's words and those of libraries. Earlier kinds win where one text speaks of several.
SIGNS = tuple(
    (kind, re.compile("|".join(words), re.IGNORECASE))
    for kind, words in (
        (
            FailureKind.TIME_LIMIT,
            [
                r"max(imum)? allowed execution duration",
                r"exceeded the .*(run|execution) ?time",
                r"timeout exceeded",
                r"time limit (was )?(exceeded|reached)",
            ],
        ),
        (
            FailureKind.OUT_OF_MEMORY,
            [
                r"out of memory",
                r"\bOOM\b",
                r"OutOfMemoryError",
                r"\bMemoryError\b",
                r"unable to allocate",
                r"allocate more memory",
                r"cannot allocate memory",
                r"CUBLAS_STATUS_ALLOC_FAILED",
                r"DefaultCPUAllocator",
                r"\bsignal 9\b",  # what the system's guard against exhaustion sends
                r"\bcode -?(9|137)\b",
            ],
        ),
        (
            FailureKind.QUOTA,
            [r"\bquota\b", r"session count of \d+ reached", r"no accelerator hours"],
        ),
        (
            FailureKind.TRANSIENT,
            [
                r"machine went away",
                r"internal error",
                r"(service|temporarily) unavailable",
                r"failed to (start|pull|provision)",
                r"cut off before it arrived",
                r"please try again",
            ],
        ),
    )
)

# The last line of a traceback: SomeError: what it says.
ERROR_LINE = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Warning)(: |$)")
RAISED_IN_TEXT = re.compile(r"\w(Error|Exception): ")
REASON_LIMIT = 500  # characters kept of a cause
LOG_LIMIT = 1 << 20  # characters of a log's end that are searched


@dataclass(frozen=True)
class Cause:
    """A failure's kind, and the words that say so."""

    kind: FailureKind
    reason: str

    @property
    def next_step(self) -> str:
        """What to do about it."""
        return NEXT_STEPS[self.kind]


def kind_of(text: str) -> FailureKind | None:
    """The kind that a text speaks of, or None."""
    return next((kind for kind, sign in SIGNS if sign.search(text)), None)


def kind_after(state: RunState, failure: str | None) -> FailureKind | None:
    """The kind of a run's failure from the service's words alone; None for one that did not fail."""
    if not state.is_final or state is RunState.COMPLETE:
        return None
    return find_cause(state, failure).kind


def find_cause(state: RunState, failure: str | None, log: str = "") -> Cause:
    """Why a run ended badly.

    Args:
        state: How it ended.
        failure: The service's own reason, if it gave one.
        log: Plain text of the log, if it was fetched.
    """
    if state is RunState.CANCEL_ACKNOWLEDGED:
        return Cause(FailureKind.CANCELLED, "the session was cancelled")
    said = (failure or "").strip()
    lines = [line.strip() for line in log[-LOG_LIMIT:].splitlines() if line.strip()]
    raised = [line for line in lines if ERROR_LINE.match(line)]
    if state is RunState.REJECTED:
        return _cause(kind_of(said) or FailureKind.REJECTED, said or "no reason given")
    kind = kind_of(said)
    # A kernel may speak of quotas and services too: then it is the kernel's own error.
    kernel_spoke = bool(raised) or RAISED_IN_TEXT.search(said) is not None
    if kind is FailureKind.TIME_LIMIT or (kind is not None and not kernel_spoke):
        return _cause(kind, said)
    reason = raised[-1] if raised else (said or (lines[-1] if lines else "no log was written"))
    speaking = kind_of(reason) or kind
    if speaking in (FailureKind.OUT_OF_MEMORY, FailureKind.TIME_LIMIT):
        return _cause(speaking, reason)
    return _cause(FailureKind.KERNEL_ERROR, reason)


def _cause(kind: FailureKind, reason: str) -> Cause:
    return Cause(
        kind, reason if len(reason) <= REASON_LIMIT else reason[: REASON_LIMIT - 3] + "..."
    )

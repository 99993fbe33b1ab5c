"""A failure's kind is what one does next about it, read from the service's words and the log."""

import pytest

from harness.failures import REASON_LIMIT, FailureKind, find_cause
from harness.records import RunState

TRACEBACK = """epoch 1 loss 0.61
Traceback (most recent call last):
  File "/kaggle/src/script.py", line 900, in <module>
    main()
{}
"""


@pytest.mark.parametrize(
    ("failure", "log", "kind"),
    [
        ("Your notebook was stopped because it exceeded the max allowed execution duration.", "", "time limit"),
        ("Your notebook tried to allocate more memory than is available. It has been stopped.", "", "out of memory"),
        (None, TRACEBACK.format("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (None, TRACEBACK.format("MemoryError"), "out of memory"),
        ("The script ended with signal 9.", "epoch 1\n", "out of memory"),
        ("The machine went away: the kernel's supervisor ended without a result.", "", "transient"),
        (None, TRACEBACK.format("ValueError: 'label' holds 3 classes"), "kernel error"),
        ("The script ended with code 1. KeyError: 'quota'", TRACEBACK.format("KeyError: 'quota'"), "kernel error"),
        ("Maximum weekly GPU quota of 30.00 hours reached.", "", "quota"),
        (None, "", "kernel error"),
    ],
)  # fmt: skip
def test_a_failed_run_is_told_by_kind(failure, log, kind):
    assert find_cause(RunState.ERROR, failure, log).kind == kind


def test_a_refused_push_is_a_quota_or_a_rejection():
    full = find_cause(RunState.REJECTED, "Maximum batch GPU session count of 2 reached.")
    other = find_cause(RunState.REJECTED, "Invalid language: 'r'")
    assert (full.kind, other.kind) == (FailureKind.QUOTA, FailureKind.REJECTED)


def test_a_cancelled_run_is_no_error_of_the_kernel():
    assert find_cause(RunState.CANCEL_ACKNOWLEDGED, None).kind is FailureKind.CANCELLED


def test_the_cause_is_the_innermost_error_and_never_a_novel():
    log = TRACEBACK.format("ValueError: first") + TRACEBACK.format("RuntimeError: " + "x" * 9000)
    cause = find_cause(RunState.ERROR, "The script ended with code 1.", log)
    assert cause.reason.startswith("RuntimeError: xxx")
    assert len(cause.reason) == REASON_LIMIT

"""The settings of one local Kaggle, kept in its state folder so that every process sees them.

Defaults follow the service where its limits are known; the rest is chosen for short waits.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields
from typing import Any

# The service retired these and silently gives another machine.
_RETIRED = {
    "NvidiaTeslaP100": "NvidiaTeslaT4",
    "TpuV38": "TpuV5E8",
    "Tpu1VmV38": "TpuV5E8",
}

SANDBOXES = ("auto", "bwrap", "bwrap-proc", "unshare", "plain")


@dataclass(frozen=True)
class Options:
    """What can be chosen about a local Kaggle.

    Attributes:
        username: The account behind any token, and the default owner.
        error_shape: `nested` as today's service answers, or `flat`.
        mount_layout: `new` (`/kaggle/input/datasets/<owner>/<slug>`) or `old` (`/kaggle/input/<slug>`).
        sandbox: The rung of the runner's ladder to use; `auto` takes the best that works.
        gpu_sessions: Active GPU sessions an account may have.
        cpu_sessions: Active CPU sessions an account may have.
        tpu_sessions: Active TPU sessions an account may have.
        max_running: Kernels that really run at once; 0 means half the cores.
        dataset_delay_s: Seconds from creation to READY.
        dataset_polls: Status polls before READY, counted after the delay.
        dataset_quota_bytes: What an account's datasets may hold together; a version beyond it is
            accepted and its processing then fails, as on the service. 0 means no limit.
        submission_delay_s: Seconds a submission shows as PENDING.
        submission_polls: Times a submission shows as PENDING.
        kernel_polls: -1 runs kernels; N >= 0 runs nothing and completes a session after N polls.
        session_limit_s: Longest session, and the default.
        memory_limit_bytes: Resident memory a kernel's processes may use together; 0 means no limit.
        output_limit_bytes: Size `/kaggle/working` may reach.
        source_limit_bytes: Size of a kernel's source that is still accepted.
        gpu_quota_s: Accelerator seconds per week.
        tpu_quota_s: Accelerator seconds per week.
        live_logs: Whether the log field is filled while a session runs; the service leaves it empty.
        push_cancels: Whether a push cancels the kernel's running session; reports disagree.
        substitutions: Machine shapes silently replaced by others.
        extra_env: Environment variables given to every kernel.
    """

    username: str = "local"
    error_shape: str = "nested"
    mount_layout: str = "new"
    sandbox: str = "auto"
    gpu_sessions: int = 2
    cpu_sessions: int = 5
    tpu_sessions: int = 1
    max_running: int = 0
    dataset_delay_s: float = 0.3
    dataset_polls: int = 0
    dataset_quota_bytes: int = 0
    submission_delay_s: float = 0.0
    submission_polls: int = 0
    kernel_polls: int = -1
    session_limit_s: int = 12 * 3600
    memory_limit_bytes: int = 0
    output_limit_bytes: int = 20 * 10**9
    source_limit_bytes: int = 1 << 20
    gpu_quota_s: int = 30 * 3600
    tpu_quota_s: int = 20 * 3600
    live_logs: bool = False
    push_cancels: bool = False
    substitutions: dict[str, str] = field(default_factory=lambda: dict(_RETIRED))
    extra_env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values that no code path knows."""
        for name, value, known in (
            ("error_shape", self.error_shape, ("nested", "flat")),
            ("mount_layout", self.mount_layout, ("new", "old")),
            ("sandbox", self.sandbox, SANDBOXES),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; use one of {', '.join(known)}")

    @property
    def slots(self) -> int:
        """How many kernels may really run at once."""
        return self.max_running or max(1, (os.cpu_count() or 1) // 2)

    def to_json(self) -> dict[str, Any]:
        """Give the plain form that is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Options:
        """Read the stored form, ignoring fields of other versions."""
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})

"""How a kernel's process is walled in: a ladder of sandboxes, the best that works is taken.

The top rung builds a root of its own with bubblewrap, so that `/kaggle` can exist: inputs
read-only, working folder private, network off when the kernel says so. Where namespaces are
restricted the next rungs give up a little each, and the last one is a plain process that says so in
the log. Each rung is tried by running it, because a program that is installed may still be
forbidden. Standard library only: the supervisor waits for this import.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SYSTEM_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "fonts")
_ETC_CERTIFICATES = ("ssl/certs", "ssl/openssl.cnf", "pki/tls/certs", "ca-certificates")
_ETC_NETWORK = ("resolv.conf", "hosts", "nsswitch.conf", "gai.conf")
_GPU_DEVICES = ("nvidia*", "dri", "kfd")

WARNINGS = {
    "bwrap": "",
    "bwrap-proc": "the sandbox shows the host's process list",
    "unshare": "no bubblewrap sandbox works here: the network is off, but inputs are ordinary files",
    "plain": "no sandbox works here: this is a plain process, inputs are ordinary files and the "
    "network is not cut off",
}


@dataclass(frozen=True)
class Launch:
    """A command that is ready to start.

    Attributes:
        rung: The rung of the ladder.
        command: What to execute.
        env: The process's whole environment.
        cwd: Where it starts.
        warning: What this rung does not protect, empty on the top one.
    """

    rung: str
    command: list[str]
    env: dict[str, str]
    cwd: Path
    warning: str


def prepare(job: dict[str, Any], run: Path) -> Launch:
    """Choose the rung for a job and build its command.

    Raises:
        RuntimeError: If the job names one rung and that one does not work here.
    """
    for name in ("working", "temp", "tmp", "src"):
        (run / name).mkdir(exist_ok=True)
    script = run / "src" / job["script"]
    if not script.exists():
        shutil.copyfile(run / job["script"], script)
    wanted = job["sandbox"]
    rungs = list(WARNINGS) if wanted == "auto" else [wanted]
    if job["internet"]:
        # Without bubblewrap, cutting the network is all there is to do, and here it stays on.
        rungs = ["plain" if rung == "unshare" else rung for rung in rungs]
    for rung in rungs:
        launch = _build(rung, job, run)
        if _works(launch):
            return launch
    raise RuntimeError(f"the sandbox {wanted} does not work on this machine")


@functools.cache
def protects(sandbox: str) -> bool:
    """Tell whether kernels of this setting will see their inputs write-protected."""
    if sandbox != "auto":
        return sandbox.startswith("bwrap")
    for options in ([], ["--proc", "/proc"]):
        command = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", *options, sys.executable, "-S"]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(
                [*command, "-c", ""], capture_output=True, timeout=30, check=False
            )
            if done.returncode == 0:
                return True
    return False


def _works(launch: Launch) -> bool:
    """Try a rung by running the interpreter in it and doing nothing."""
    if launch.rung == "plain":
        return True
    *wall, _script = launch.command
    try:
        done = subprocess.run(
            [*wall, "-S", "-c", ""],
            env=launch.env,
            cwd=launch.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _build(rung: str, job: dict[str, Any], run: Path) -> Launch:
    if rung.startswith("bwrap"):
        return _bubblewrap(rung, job, run)
    return _unwalled(rung, job, run)


def _environment(job: dict[str, Any], home: str, tmp: str) -> dict[str, str]:
    """List everything a kernel sees of the environment; the host's own never gets in."""
    env = {
        "PATH": f"{job['prefix']}/bin:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": home,
        "USER": "root",
        "TMPDIR": tmp,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "KAGGLE_URL_BASE": "https://www.kaggle.com",
    }
    if not job["internet"]:
        env["HF_HUB_OFFLINE"] = "1"
    return {**env, **job["env"]}


def _bubblewrap(rung: str, job: dict[str, Any], run: Path) -> Launch:
    env = _environment(job, "/tmp/home", "/tmp")
    wall = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if job["internet"]:
        wall.append("--share-net")
    wall.append("--clearenv")
    for name, value in env.items():
        wall += ["--setenv", name, value]
    # The temporary folder comes first: an environment that lives below /tmp is bound over it.
    wall += ["--bind", str(run / "tmp"), "/tmp", "--dir", "/tmp/home"]
    wall += ["--proc", "/proc"] if rung == "bwrap" else ["--ro-bind", "/proc", "/proc"]
    wall += ["--dev", "/dev"]
    # How many cores there are: lscpu, which joblib asks, answers nothing without it.
    wall += ["--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu"]
    devices = [str(path) for pattern in _GPU_DEVICES for path in Path("/dev").glob(pattern)]
    for path in devices:
        wall += ["--dev-bind-try", path, path]
    if devices:
        wall += ["--ro-bind-try", "/sys", "/sys"]
    wall += _system(bool(job["internet"]))
    for prefix in dict.fromkeys([job["base_prefix"], job["prefix"]]):
        for path in dict.fromkeys([prefix, os.path.realpath(prefix)]):
            if path != "/" and not path.startswith("/usr/") and path != "/usr":
                wall += ["--ro-bind", path, path]
    wall += ["--dir", "/kaggle", "--tmpfs", "/kaggle/input"]
    for mount in job["inputs"]:
        wall += ["--ro-bind", mount["source"], f"/kaggle/input/{mount['target']}"]
    wall += ["--remount-ro", "/kaggle/input"]
    wall += ["--bind", str(run / "working"), "/kaggle/working"]
    wall += ["--bind", str(run / "temp"), "/kaggle/temp"]
    wall += ["--ro-bind", str(run / "src"), "/kaggle/src", "--chdir", "/kaggle/working"]
    python = [f"{job['prefix']}/bin/{Path(job['python']).name}"]
    # bwrap itself needs only PATH; the kernel's own environment is set inside.
    return Launch(
        rung,
        [*wall, *python, f"/kaggle/src/{job['script']}"],
        {"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
        run,
        WARNINGS[rung],
    )


def _system(internet: bool) -> list[str]:
    """Bind the parts of the operating system that programs need, and nothing personal."""
    wall = ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM_FOLDERS:
        path = Path("/", name)
        if path.is_symlink():
            wall += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            wall += ["--ro-bind", str(path), str(path)]
    for name in (*_ETC, *_ETC_CERTIFICATES, *(_ETC_NETWORK if internet else ())):
        wall += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return wall


def _unwalled(rung: str, job: dict[str, Any], run: Path) -> Launch:
    """Lay out `/kaggle` inside the run folder and point the kernel at it."""
    root = run / "kaggle"
    (root / "input").mkdir(parents=True, exist_ok=True)
    for name in ("working", "temp", "src"):
        _link(root / name, run / name)
    for mount in job["inputs"]:
        place = root / "input" / mount["target"]
        place.parent.mkdir(parents=True, exist_ok=True)
        _mirror(place, Path(mount["source"]))
    home = run / "tmp" / "home"
    home.mkdir(exist_ok=True)
    env = {
        **_environment(job, str(home), str(run / "tmp")),
        "HARNESS_KAGGLE_ROOT": str(root),
    }
    wall = ["unshare", "-r", "-n", "--"] if rung == "unshare" and not job["internet"] else []
    command = [*wall, job["python"], str(root / "src" / job["script"])]
    return Launch(rung, command, env, run / "working", WARNINGS[rung])


def _mirror(place: Path, source: Path) -> None:
    """Lay out real folders with links to the files: a search such as `rglob` enters no linked one."""
    if not source.is_dir():
        _link(place, source)
        return
    place.mkdir(exist_ok=True)
    for entry in os.scandir(source):
        if entry.is_dir(follow_symlinks=False):
            _mirror(place / entry.name, Path(entry.path))
        else:
            _link(place / entry.name, Path(entry.path))


def _link(place: Path, target: Path) -> None:
    if not place.is_symlink():
        place.symlink_to(target)

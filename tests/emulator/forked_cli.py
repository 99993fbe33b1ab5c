"""The unmodified `kaggle` command line, each time in a fresh process that is quick to start.

A small parent imports what the client builds on (requests, kagglesdk) and forks for every command;
the client itself is imported in the child, with the command's own environment. That saves most of
the half second that a command needs before its first request. `HARNESS_PLAIN_CLI=1` starts the real
executable instead, and a test compares the two.
"""

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_PARENT = """
import contextlib, importlib, json, os, sys, traceback
for name in ("requests", "kagglesdk", "dateutil.parser", "tqdm", "bleach", "slugify", "six",
             "argparse", "csv", "zipfile", "tarfile", "fnmatch", "concurrent.futures"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)

def child(order):
    out, err = (os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in ("out", "err"))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    sys.argv = ["kaggle", *order["arguments"]]
    sys.path[0:1] = []
    code = 0
    try:
        from kaggle.cli import main
        code = main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)

for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        child(order)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@functools.cache
def _parent() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def end() -> None:
        assert process.stdin is not None
        process.stdin.close()  # its loop ends with its input, also when this process is killed
        process.wait(10)

    atexit.register(end)
    return process


def kaggle(
    arguments: tuple[str, ...], env: Mapping[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run the command line and give what it said."""
    program = str(Path(sys.executable).parent / "kaggle")
    if os.environ.get("HARNESS_PLAIN_CLI") == "1":
        return subprocess.run(
            [program, *arguments], env=dict(env), capture_output=True, text=True, timeout=120,
            cwd=cwd,
        )  # fmt: skip
    parent = _parent()
    assert parent.stdin is not None
    assert parent.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        order = {"arguments": arguments, "env": dict(env), "cwd": str(cwd)}
        order |= {"out": str(out), "err": str(err)}
        parent.stdin.write(json.dumps(order) + "\n")
        parent.stdin.flush()
        code = int(parent.stdout.readline())
        return subprocess.CompletedProcess(
            [program, *arguments], code, out.read_text(), err.read_text()
        )

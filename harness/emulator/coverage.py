"""Which methods of the SDK are answered: makes `COVERAGE.md` from the routes and the installed SDK.

python -m harness.emulator.coverage > harness/emulator/COVERAGE.md
"""

from __future__ import annotations

import re
from pathlib import Path

import kagglesdk

from harness.emulator.routes import all_routes

_CALL = re.compile(r'_client\.call\(\s*"([\w.]+)",\s*"(\w+)"')
_LINE = re.compile(r"^- \[([x ])\] `([\w.]+/\w+)`", re.MULTILINE)

_HEAD = """# What the local Kaggle answers

Made by `python -m harness.emulator.coverage` from the routes and kagglesdk; a test keeps it true.
Methods without a mark are answered with 404. Beside the methods there are `PUT /upload/...`,
`GET /files/...`, `GET kernels/logs/stream/{owner}/{slug}`, pages for people at `GET /`, faults at
`/__emu__/faults`, and `GET /__emu__` to tell a local Kaggle from another server.
"""


def sdk_methods() -> set[str]:
    """List the methods that the installed SDK can call."""
    root = Path(kagglesdk.__file__).parent
    texts = (path.read_text(encoding="utf-8") for path in sorted(root.glob("*/services/*.py")))
    return {f"{service}/{name}" for text in texts for service, name in _CALL.findall(text)}


def read(document: str) -> tuple[set[str], set[str]]:
    """Read the answered and the unanswered methods out of the document."""
    marks = _LINE.findall(document)
    return {name for mark, name in marks if mark == "x"}, {
        name for mark, name in marks if mark == " "
    }


def render() -> str:
    """Write the document."""
    answered = set(all_routes())
    known = sdk_methods() | answered
    lines = [_HEAD, f"{len(answered)} of {len(known)} methods are answered."]
    service = ""
    for name in sorted(known):
        if name.partition("/")[0] != service:
            service = name.partition("/")[0]
            lines += ["", f"## {service}", ""]
        lines.append(f"- [{'x' if name in answered else ' '}] `{name}`")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(), end="")

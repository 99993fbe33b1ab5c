"""Every benchmark, each in a process of its own, into one table and one JSON file.

    python -m benchmarks [--only features,pairs] [--quick | --tiny] [--json FILE] [--data FOLDER]

Exit code 1 when a target is missed, an answer differs or a benchmark fails.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.racing import ROOT, Line, Same, option_parser, table, write_results

DEFAULT_JSON = ROOT / "benchmarks" / "results.json"  # of the last run; not committed
TOPICS = (
    "startup", "features", "pairs", "images", "gradcam", "training", "blending", "packaging", "loop",
)  # fmt: skip


def line_from(record: dict[str, Any]) -> Line:
    """A line as a benchmark wrote it."""
    fields = {name: record[name] for name in Line.__dataclass_fields__}
    return Line(**{**fields, "same": Same(**record["same"])})


def main() -> int:
    """Run the topics one after the other; see the module."""
    parser = option_parser((__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(TOPICS), help=f"of {', '.join(TOPICS)}")
    parsed = parser.parse_args()
    results_file = parsed.json or DEFAULT_JSON
    topics = parsed.only.split(",")
    unknown = sorted(set(topics) - set(TOPICS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(TOPICS)}")
    passed = [f"--{name}" for name in ("quick", "tiny") if getattr(parsed, name)]
    passed += ["--data", str(parsed.data.resolve())] if parsed.data else []
    records: list[dict[str, Any]] = []
    failed: list[str] = []
    with TemporaryDirectory(prefix="benchmarks-") as name:
        for topic in topics:
            results = Path(name) / f"{topic}.json"
            command = [sys.executable, "-m", f"benchmarks.{topic}", *passed, "--json", str(results)]
            print(f"-- {topic}", file=sys.stderr, flush=True)
            code = subprocess.run(
                command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False
            ).returncode
            found = json.loads(results.read_text("utf-8"))["lines"] if results.is_file() else []
            records += [{**record, "topic": topic} for record in found]
            write_results(records, results_file)
            if code and not any(record["verdict"] in ("MISSED", "DIFFERS") for record in found):
                failed.append(topic)
    print(table(map(line_from, records)))
    missed = [record for record in records if record["verdict"] in ("MISSED", "DIFFERS")]
    print(
        f"{len(records)} lines, {len(missed)} missed; failed benchmarks: {', '.join(failed) or 'none'}; "
        f"all of it in {results_file}"
    )
    return int(bool(missed or failed))


if __name__ == "__main__":
    raise SystemExit(main())

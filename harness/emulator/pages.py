"""Pages for people: what runs, what it says and leaves, the datasets, the leaderboard, the quota.

Rendered here, without scripts and without anything from elsewhere. They only show; nothing can be
changed through them. Every value goes through `_html`, which escapes it: titles, file names and
log lines were written by others.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup
from werkzeug.wrappers import Request, Response

from harness.emulator import competitions, datasets, faults, files, kernels, lifecycle, models
from harness.emulator.clock import as_datetime
from harness.emulator.errors import not_found
from harness.emulator.state import State

ROWS = 50
_TAIL_BYTES = 128 << 10
_REFRESH_S = 2
# Everything that a line of the list needs, and not the source, which may be a megabyte.
_SESSION = (
    "v.id, v.number, v.created, v.accelerator, v.status, v.failure, v.final, v.seconds, v.polls"
)

_STYLE = """
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1d2329;--dim:#5b6670;--line:#dfe3e6;
--link:#0b62a8;--ok:#17713c;--bad:#b3261e;--busy:#7a5200;--wait:#4a5560;--code:#f2f4f5}
@media(prefers-color-scheme:dark){:root{--bg:#14181b;--card:#1b2024;--ink:#e4e8eb;--dim:#9aa5ae;
--line:#30373d;--link:#7cbcf2;--ok:#6fd08f;--bad:#ff9a92;--busy:#f0c36a;--wait:#b3bec7;--code:#101417}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:1rem;background:var(--bg);color:var(--ink);
font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
a{color:var(--link)}
h1{font-size:1.35rem;margin:.2rem 0 .8rem}
h2{font-size:1.05rem;margin:1.6rem 0 .5rem}
nav,small,.dim{color:var(--dim)}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.95rem}
nav a{padding:.35rem 0}
table{width:100%;border-collapse:collapse;background:var(--card);border:1px solid var(--line)}
th,td{text-align:left;vertical-align:top;padding:.5rem .6rem;border-bottom:1px solid var(--line)}
th{font-size:.8rem;font-weight:600;color:var(--dim)}
.num{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums;overflow-wrap:normal}
th.num:first-child,td.num:first-child{width:3.5rem}
.state{font-weight:600;white-space:nowrap}
.COMPLETE,.READY{color:var(--ok)}.ERROR,.FAILED{color:var(--bad)}
.RUNNING,.PENDING,.BUSY{color:var(--busy)}
.QUEUED,.NEW_SCRIPT,.CANCEL_REQUESTED,.CANCEL_ACKNOWLEDGED,.DELETED{color:var(--wait)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.5rem 0}
dt{color:var(--dim)}dd{margin:0}
pre{background:var(--code);border:1px solid var(--line);padding:.7rem;margin:.5rem 0;
font:13px/1.45 ui-monospace,monospace;white-space:pre-wrap;max-height:70vh;overflow:auto}
.log{display:flex;flex-direction:column-reverse}
.err{color:var(--bad)}
progress{width:100%;max-width:22rem;height:1rem;accent-color:var(--link)}
.note{border-left:4px solid var(--busy);background:var(--card);padding:.5rem .8rem;margin:.8rem 0}
@media(max-width:40rem){body{padding:.7rem}.wide{display:none}th,td{padding:.5rem .4rem}}
"""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def _html(template: str, *values: object) -> Markup:
    """Fill a template; values that are not markup already are escaped."""
    return Markup(template).format(*values)


def _join(parts: Iterable[Markup], by: str = "") -> Markup:
    return Markup(by).join(parts)


def is_page(path: str) -> bool:
    """Tell whether an address is one of a page."""
    return path == "/" or path.split("/")[1:2] in (
        ["kernels"],
        ["datasets"],
        ["competitions"],
        ["models"],
    )


def show(state: State, request: Request, path: str) -> Response | None:
    """Answer the address of a page, or None if it is none.

    Raises:
        ApiError: With status 404 for a thing that does not exist.
    """
    parts = [part for part in path.split("/") if part]
    view = _View(state, request)
    shape: tuple[str, int] = (parts[0] if parts else "", len(parts))
    pages: dict[tuple[str, int], Callable[..., Response]] = {
        ("", 0): view.overview,
        ("kernels", 3): view.kernel,
        ("kernels", 4): view.raw_log,
        ("datasets", 3): view.dataset,
        ("competitions", 2): view.competition,
        ("models", 3): view.model,
    }
    page = pages.get(shape)
    if page is None or request.method not in ("GET", "HEAD"):
        return None
    return page(*parts[1:])


class _View:
    """The pages of one request."""

    def __init__(self, state: State, request: Request) -> None:
        self.state = state
        self.request = request
        self.now = state.clock.now()

    # -- pages ------------------------------------------------------------------------------

    def overview(self) -> Response:
        """Everything there is, the newest first."""
        active = lifecycle.sessions(self.state, active=True)
        rows = self._sql(
            f"SELECT k.owner, k.slug, {_SESSION} FROM kernels k JOIN kernel_versions v"
            " ON v.kernel = k.id WHERE v.number ="
            " (SELECT max(number) FROM kernel_versions WHERE kernel = k.id) ORDER BY v.id DESC"
        )
        shown, more = self._page("kernels", rows)
        body = [
            self._faults(),
            _html("<h2>Kernels <small>{} · {} active</small></h2>", len(rows), len(active)),
            _table(
                "Kernel|State|num:Version|wide:Machine|wide num:Ran|num:Pushed",
                [self._kernel_row(lifecycle.observe(self.state, row)) for row in shown],
                "No kernels yet.",
            ),
            more,
            _html("<h2>Competitions</h2>"),
            self._competitions(),
            *self._datasets(),
            *self._models(),
            _html("<h2>Accelerator quota of this week</h2>"),
            self._quota(),
        ]
        return self._send("Local Kaggle", body, live=bool(active), root=True)

    def kernel(self, owner: str, slug: str) -> Response:
        """One version of a kernel: its state, log, files and source."""
        found = self._one(
            "SELECT * FROM kernels WHERE owner = ? AND slug = ?", owner.lower(), slug.lower()
        )
        row = kernels.version(self.state, found["id"], self._number("v"))
        asked = kernels.request_of(row)
        numbers = self._sql(
            "SELECT number FROM kernel_versions WHERE kernel = ? ORDER BY number DESC", found["id"]
        )
        home = f"/kernels/{quote(found['owner'])}/{quote(found['slug'])}"
        sources = [
            (kind.capitalize()[:-1], self._source(kind, name))
            for kind in ("datasets", "competitions", "kernels", "models")
            for name in asked[kind]
        ]
        facts = [
            ("State", _state(row["status"])),
            ("Version", self._versions(home, [item["number"] for item in numbers], row["number"])),
            ("Pushed", self._when(row["created"])),
            ("Ran", _span(row["seconds"]) if row["final"] else "still running"),
            ("Machine", asked["machine"] or row["accelerator"]),
            ("Internet", "on" if asked["internet"] else "off"),
            *sources,
        ]
        if row["failure"]:
            facts.insert(1, ("Failure", _html('<span class="err">{}</span>', row["failure"])))
        raw = f"{home}/log?v={row['number']}"
        body = [
            _facts(facts),
            _html('<h2>Log <small><a href="{}">as text</a></small></h2>', raw),
            self._log(self.state.run_folder(row["id"])),
            *self._outputs(row),
            _html("<h2>Source</h2><details><summary>{}</summary><pre>{}</pre></details>",
                  _count(row["source"].count("\n") + 1, "line"), row["source"]),
        ]  # fmt: skip
        title = f"{found['owner']}/{found['slug']}"
        return self._send(title, body, live=not row["final"])

    def raw_log(self, owner: str, slug: str, name: str) -> Response:
        """A kernel's whole log as plain text."""
        if name != "log":
            raise not_found("Not found")
        found = self._one(
            "SELECT * FROM kernels WHERE owner = ? AND slug = ?", owner.lower(), slug.lower()
        )
        row = kernels.version(self.state, found["id"], self._number("v"))
        lines = lifecycle.log_lines(self.state.run_folder(row["id"]))
        text = "".join(json.loads(line)["data"] for line in lines)
        return Response(
            text.encode("utf-8", "replace"),
            headers=_HEADERS,
            content_type="text/plain; charset=utf-8",
        )

    def dataset(self, owner: str, slug: str) -> Response:
        """A dataset's versions, and the files of one of them."""
        found = self._one(
            "SELECT * FROM datasets WHERE owner = ? AND slug = ?", owner.lower(), slug.lower()
        )
        listed = datasets.versions(self.state, found["id"])[::-1]
        newest = datasets.current(self.state, found["id"]) or listed[0]
        number = self._number("v") or newest["number"]
        chosen = next((item for item in listed if item["number"] == number), None)
        if chosen is None:
            raise not_found("Dataset version not found")
        home = f"/datasets/{quote(found['owner'])}/{quote(found['slug'])}"
        content = datasets.files(self.state, chosen["id"])
        shown, more = self._page("files", content, {"v": number})
        zipped = self._address("dataset-zip", chosen["id"], f"{found['slug']}.zip")
        body = [
            _facts([
                ("Title", found["title"]), ("About", found["subtitle"] or found["description"]),
                ("Licence", found["license"]), ("Private", "yes" if found["private"] else "no"),
            ]),
            _html("<h2>Versions</h2>"),
            _table("Version|State|num:Made|wide:Notes", [
                [_html('<a href="{}?v={}">{}</a>', home, item["number"], item["number"]),
                 _html("{}{}", _state(item["status"]), f" {item['failure']}" if item["failure"] else ""),
                 self._when(item["created"]), item["notes"]]
                for item in listed[:ROWS]
            ]),
            _html('<h2>Files of version {} <small>{}, {} · <a href="{}">zip</a></small></h2>',
                  number, len(content), _bytes(sum(file.size for file in content)), zipped),
            _table("File|num:Size", [
                [_html('<a href="{}">{}</a>', self._address("dataset", chosen["id"], file.path), file.path),
                 _bytes(file.size)]
                for file in shown
            ], "No files."),
            more,
        ]  # fmt: skip
        title = f"{found['owner']}/{found['slug']}"
        return self._send(title, body, live=listed[0]["status"] not in ("READY", "FAILED"))

    def competition(self, slug: str) -> Response:
        """A competition's leaderboard, everybody's submissions, and its data."""
        entry = competitions.find(self.state, slug)
        spec, closed = entry.spec, entry.closed(self.now)
        sent = competitions.submissions(self.state, spec.slug, None)
        board = competitions.leaderboard(self.state, entry, private=closed)
        shown, more = self._page("submissions", sent)
        content, further = self._page("files", competitions.data_files(entry))
        columns = "num:#|Submission|State|num:Public"
        body = [
            _facts([
                ("Title", spec.title), ("About", spec.description), ("Metric", spec.metric),
                ("Kind", spec.kind + (", with a hidden test" if entry.hidden else "")),
                ("A day", f"{spec.max_daily_submissions} submissions"),
                ("Deadline", (spec.deadline or "none") + (" (closed)" if closed else "")),
                ("Scored", "yes" if entry.solution else "no, there is no solution file"),
            ]),
            _html("<h2>Leaderboard <small>{}</small></h2>", "private" if closed else "public"),
            _table("num:#|Team|num:Score|wide num:When", [
                [str(rank), line.team, competitions.format_score(line.score), self._when(line.date)]
                for rank, line in enumerate(board[:ROWS], start=1)
            ], "No scored submissions yet."),
            _html("<h2>Submissions <small>{}</small></h2>", len(sent)),
            _table(columns + ("|num:Private" if closed else "") + "|wide num:When", [
                self._submission_row(item, closed) for item in shown
            ], "No submissions yet."),
            more,
            _html("<h2>Data</h2>"),
            _table("File|num:Size", [
                [_html('<a href="{}">{}</a>', self._address("competition", spec.slug, file.name), file.name),
                 _bytes(file.size)]
                for file in content
            ], "No files."),
            further,
        ]  # fmt: skip
        pending = any(item["status"] == "PENDING" for item in sent)
        return self._send(spec.slug, body, live=pending)

    def model(self, owner: str, slug: str) -> Response:
        """A model's variations and the files of their versions."""
        found = self._one(
            "SELECT * FROM models WHERE owner = ? AND slug = ?", owner.lower(), slug.lower()
        )
        asked = json.loads(found["request"])
        body = [_facts([("Title", asked["title"]), ("About", asked["subtitle"])])]
        for entry in models.instances(self.state, found["id"]):
            body.append(_html("<h2>{} / {}</h2>", entry["framework"], entry["slug"]))
            for item in models.versions(self.state, entry["id"])[:ROWS]:
                content = models.files(self.state, item["id"])
                rows = [
                    [
                        _html('<a href="{}">{}</a>',
                              self._address("model", item["id"], file.path), file.path),
                        _bytes(file.size),
                    ]
                    for file in content[:ROWS]
                ]  # fmt: skip
                body.append(_table(f"Version {item['number']}|num:Size", rows, "No files."))
        return self._send(f"{found['owner']}/{found['slug']}", body)

    # -- parts ------------------------------------------------------------------------------

    def _kernel_row(self, row: dict[str, Any]) -> list[object]:
        ran = _span(row["seconds"]) if row["final"] else "…"
        name = _html('<a href="/kernels/{}/{}">{}/{}</a>',
                     quote(row["owner"]), quote(row["slug"]), row["owner"], row["slug"])  # fmt: skip
        return [name, _state(row["status"]), str(row["number"]), row["accelerator"], ran,
                self._when(row["created"])]  # fmt: skip

    def _submission_row(self, row: dict[str, Any], closed: bool) -> list[object]:
        name = _html("{}<br><small>{} · {}</small>", row["file_name"], row["owner"],
                     row["description"])  # fmt: skip
        if row["kernel"]:
            owner, slug, number = row["kernel"].rsplit("/", 2)
            name = _html('{}<br><small><a href="/kernels/{}/{}?v={}">{}</a></small>', name,
                         quote(owner), quote(slug), number, row["kernel"])  # fmt: skip
        known = row["status"] == "COMPLETE"
        status = _state(row["status"])
        if row["error"] and row["status"] == "ERROR":
            status = _html('{}<br><small class="err">{}</small>', status, row["error"])
        cells: list[object] = [str(row["ref"]), name, status]
        cells.append(competitions.format_score(row["public"]) if known else "")
        if closed:
            cells.append(competitions.format_score(row["private"]) if known else "")
        return [*cells, self._when(row["created"])]

    def _competitions(self) -> Markup:
        rows: list[list[object]] = []
        for entry in competitions.all_entries(self.state):
            best = competitions.leaderboard(self.state, entry, private=False)
            sent = self._one(
                "SELECT count(*) AS n FROM submissions WHERE competition = ?", entry.id
            )
            rows.append([
                _html('<a href="/competitions/{}">{}</a><br><small>{}</small>', entry.spec.slug,
                      entry.spec.slug, entry.spec.title),
                entry.spec.metric, str(sent["n"]),
                competitions.format_score(best[0].score) if best else "",
            ])  # fmt: skip
        return _table(
            "Competition|wide:Metric|num:Submissions|num:Best",
            rows,
            "None yet: harness local competition add FOLDER",
        )

    def _datasets(self) -> list[Markup]:
        rows = self.state.datasets()[::-1]
        shown, more = self._page("datasets", rows)
        cells: list[list[object]] = []
        for row in shown:
            newest = datasets.versions(self.state, row["id"])[-1]
            ready = datasets.current(self.state, row["id"])
            cells.append([
                _html('<a href="/datasets/{}/{}">{}/{}</a>', quote(row["owner"]),
                      quote(row["slug"]), row["owner"], row["slug"]),
                _state(newest["status"]), str(ready["number"] if ready else 0),
                _bytes(datasets.total_size(self.state, ready["id"])) if ready else "",
                self._when(newest["created"]),
            ])  # fmt: skip
        return [
            _html("<h2>Datasets <small>{}</small></h2>", len(rows)),
            _table("Dataset|State|num:Version|num:Size|wide num:Made", cells, "No datasets yet."),
            more,
        ]

    def _models(self) -> list[Markup]:
        rows = self._sql("SELECT * FROM models ORDER BY id DESC")
        if not rows:
            return []
        shown, more = self._page("models", rows)
        cells: list[list[object]] = [
            [
                _html('<a href="/models/{}/{}">{}/{}</a>', quote(row["owner"]), quote(row["slug"]),
                      row["owner"], row["slug"]),
                str(len(models.instances(self.state, row["id"]))),
            ]
            for row in shown
        ]  # fmt: skip
        return [_html("<h2>Models</h2>"), _table("Model|num:Variations", cells), more]

    def _quota(self) -> Markup:
        options = self.state.options
        rows = []
        for name, allowed in (("GPU", options.gpu_quota_s), ("TPU", options.tpu_quota_s)):
            used = kernels.used_this_week(self.state, options.username, name)
            rows.append(
                _html(
                    '<dt>{}</dt><dd><progress max="{}" value="{}"></progress> {} of {}</dd>',
                    name, allowed, min(used, allowed), _hours(used), _hours(allowed),
                )
            )  # fmt: skip
        until = as_datetime(kernels.next_refresh(self.now)).strftime("%a %Y-%m-%d %H:%M UTC")
        return _html('<dl>{}</dl><p class="dim">For {}; starts again {}.</p>', _join(rows),
                     options.username, until)  # fmt: skip

    def _faults(self) -> Markup:
        armed = faults.listed(self.state)
        if not armed:
            return Markup()
        names = ", ".join(sorted({f"{item['kind']} on {item['pattern']}" for item in armed}))
        return _html('<p class="note">Faults are armed: {}</p>', names)

    def _log(self, run: Path) -> Markup:
        lines, cut = _tail(run / "log.jsonl")
        if not lines:
            return _html('<p class="dim">Nothing yet.</p>')
        said = _join(
            _html('<span class="err">{}</span>' if stream == "stderr" else "{}", text)
            for stream, text in lines
        )
        note = _html('<p class="dim">Only the end is shown.</p>') if cut else Markup()
        return _html('{}<pre class="log"><code>{}</code></pre>', note, said)

    def _outputs(self, row: dict[str, Any]) -> list[Markup]:
        if not row["final"]:
            return [_html('<h2>Files</h2><p class="dim">Shown when it has ended.</p>')]
        listed = kernels.outputs(self.state, row)
        shown, more = self._page("files", listed, {"v": row["number"]})
        return [
            _html("<h2>Files <small>{}, {}</small></h2>", len(listed),
                  _bytes(sum(item.size for item in listed))),
            _table("File|num:Size", [
                [_html('<a href="{}">{}</a>', self._address("kernel", row["id"], item.name), item.name),
                 _bytes(item.size)]
                for item in shown
            ], "It left no files."),
            more,
        ]  # fmt: skip

    def _source(self, kind: str, name: str) -> Markup:
        """Link what a kernel mounts to its page."""
        bare = name.removeprefix("code/").removeprefix(f"{kind}/")
        parts = bare.split("/")[: 1 if kind == "competitions" else 2]
        return _html('<a href="/{}/{}">{}</a>', kind, quote("/".join(parts)), name)

    def _versions(self, home: str, numbers: Sequence[int], chosen: int) -> Markup:
        links = (
            _html("<b>{}</b>", number)
            if number == chosen
            else _html('<a href="{}?v={}">{}</a>', home, number, number)
            for number in numbers[:ROWS]
        )
        return _join(links, " · ")

    # -- helpers ----------------------------------------------------------------------------

    def _sql(self, query: str, *values: object) -> list[dict[str, Any]]:
        with self.state.read() as db:
            return [dict(row) for row in db.execute(query, values)]

    def _one(self, query: str, *values: object) -> dict[str, Any]:
        rows = self._sql(query, *values)
        if not rows:
            raise not_found("Not found")
        return rows[0]

    def _number(self, name: str) -> int:
        text = self.request.args.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0

    def _address(self, kind: str, owner: str | int, path: str) -> str:
        return files.address(self.state, "", kind, owner, path)

    def _when(self, moment: float) -> Markup:
        exact = as_datetime(moment).strftime("%Y-%m-%d %H:%M:%S UTC")
        return _html('<time title="{}">{} ago</time>', exact, _span(max(0.0, self.now - moment)))

    def _page(
        self, name: str, rows: Sequence[Any], keep: dict[str, object] | None = None
    ) -> tuple[Sequence[Any], Markup]:
        """Cut one page out of a list, with links to its neighbours."""
        last = max(1, math.ceil(len(rows) / ROWS))
        number = min(max(self._number(name), 1), last)
        links = [
            _html('<a href="?{}">{}</a>', urlencode({**(keep or {}), name: other}), words)
            for other, words in ((number - 1, "← newer"), (number + 1, "older →"))
            if 1 <= other <= last
        ]
        bar = _html("<nav><span>{} of {} pages</span>{}</nav>", number, last, _join(links))
        start = (number - 1) * ROWS
        return rows[start : start + ROWS], bar if last > 1 else Markup()

    def _send(
        self, title: str, body: Iterable[Markup], live: bool = False, root: bool = False
    ) -> Response:
        page = _html(
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            '{}<link rel="icon" href="data:,"><title>{}</title><style>{}</style></head>'
            "<body><header>{}<h1>{}</h1></header><main>{}</main></body></html>",
            _html('<meta http-equiv="refresh" content="{}">', _REFRESH_S) if live else "",
            title,
            Markup(_STYLE),
            "" if root else _html('<nav><a href="/">← Local Kaggle</a></nav>'),
            title,
            _join(body),
        )
        return Response(
            page.encode("utf-8", "replace"),
            headers=_HEADERS,
            content_type="text/html; charset=utf-8",
        )


def _table(columns: str, rows: Sequence[Sequence[object]], empty: str = "") -> Markup:
    """Lay out rows; a column is written `class:Title`, `wide` ones are left out on a phone."""
    if not rows:
        return _html('<p class="dim">{}</p>', empty)
    heads = [column.rpartition(":") for column in columns.split("|")]
    top = _join(_html('<th class="{}">{}</th>', kind, title) for kind, _, title in heads)
    lines = _join(
        _html("<tr>{}</tr>", _join(
            _html('<td class="{}">{}</td>', head[0], cell)
            for head, cell in zip(heads, row, strict=True)
        ))
        for row in rows
    )  # fmt: skip
    return _html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", top, lines)


def _facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    rows = (_html("<dt>{}</dt><dd>{}</dd>", name, value) for name, value in pairs if value != "")
    return _html("<dl>{}</dl>", _join(rows))


def _state(name: str) -> Markup:
    known = name in (*lifecycle.FINAL, "RUNNING", "QUEUED", "CANCEL_REQUESTED", "PENDING",
                     "READY", "FAILED", "DELETED")  # fmt: skip
    words = name.replace("_", " ").lower()
    return _html('<span class="state {}">{}</span>', name if known else "BUSY", words)


def _span(seconds: float) -> str:
    """Write a duration in the two largest units that matter."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    for size, unit, small, name in (
        (86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"),
    ):  # fmt: skip
        if seconds >= size:
            rest = int(seconds % size // small)
            return f"{int(seconds // size)} {unit}" + (f" {rest} {name}" if rest else "")
    return ""


def _hours(seconds: float) -> str:
    """Write a quota as the service does."""
    return f"{seconds / 3600:.2f} h"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""


def _tail(path: Path) -> tuple[list[tuple[str, str]], bool]:
    """Read the end of a log: its last lines with their stream, and whether more came before."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _TAIL_BYTES))
            lines = stream.read().split(b"\n")
    except FileNotFoundError:
        return [], False
    cut = size > _TAIL_BYTES
    # The first line may be a part, the last one may still be written.
    found = [json.loads(line) for line in lines[1 if cut else 0 : -1] if line]
    return [(item["stream_name"], item["data"]) for item in found], cut

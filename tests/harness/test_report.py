"""The report shows whatever is there, says what is not, and is a page that a browser likes in both themes."""

import atexit
import functools
import json
import re
import shutil
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from contract_runs import SCRIPT, write_run
from test_ledger import new_run
from test_report_charts import NASTY, Tags

from harness.commands.report import read_histories, write_report
from harness.errors import ConfigError
from harness.records import Handle, RunSpec, RunState, Submission
from harness.report.page import asset
from harness.report.pictures import Album, data_uri
from harness.settings import Settings
from harness.workbench import open_workbench
from kernels.competitions.masked_xray import COMPETITION
from tests.emulator.browser import CHROMIUM, Browser

ROOT = Path(__file__).resolve().parents[2]
needs_chromium = [
    pytest.mark.chromium,
    pytest.mark.skipif(not CHROMIUM, reason="needs the package chromium"),
]


@pytest.fixture
def bench(tmp_path):
    with open_workbench(Settings(ROOT, tmp_path / "state", profile="cpu"), print) as found:
        yield found


@functools.cache
def template(skill, seed):
    """A run's outputs, written once: a report of its own costs a kernel a second of resampling."""
    folder = Path(tempfile.mkdtemp(prefix="report-run-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_run(folder / "outputs", skill, seed=seed, competition=COMPETITION)


def add_run(bench, strategy, skill=0.9, seed=0, failure=None, **changes):
    """A pulled run with outputs; a failure instead of outputs when one is given."""
    run = bench.ledger.add_run(
        new_run(
            spec=RunSpec(strategy, profile="cpu"), competition=COMPETITION.slug, digest=f"d-{strategy}",
            kernel=Handle("local", strategy), script_sha256=SCRIPT,
            created_at=f"2026-01-0{seed + 1}T00:00:00.000Z",
        )
    )  # fmt: skip
    if failure is not None:
        return bench.ledger.update_run(run.run_id, state=RunState.ERROR, failure=failure)
    shutil.copytree(template(skill, seed), bench.outputs_folder(run))
    metrics = json.loads((bench.outputs_folder(run) / "metrics.json").read_text())
    return bench.ledger.update_run(
        run.run_id, state=RunState.COMPLETE, version=1, pulled_at="2026-01-02T00:00:00.000Z",
        score_mean_fold=metrics["score_mean_fold"], score_pooled=metrics["score_pooled"], seconds=7200.0,
    )  # fmt: skip


def seal(bench, run):
    """Files that a test added become part of the run, as a kernel's own would be."""
    from kernels.contract import record_files, write_json

    folder = bench.outputs_folder(run)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = [vars(record) for record in record_files(folder)]
    write_json(folder / "manifest.json", manifest)


def add_extras(bench, run):
    """What a network's run leaves beside its predictions, with names nobody should choose."""
    import cv2

    folder = bench.outputs_folder(run)
    for fold in range(2):
        (folder / f"net_history_seed0_fold{fold}.csv").write_text(
            "epoch,loss,val_auc,kept\n1,0.7,0.6,False\n2,0.5,0.8,True\n"
        )
    (folder / "net_ssl_history.csv").write_text(
        "epoch,loss,std,effective_rank,knn_auc\n0,,,,0.7\n1,-0.5,0.05,20,0.75\n"
    )
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("gradcam/fn_0.png", "gradcam/n_0.png", "neighbours/pair_0.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), picture)
    (folder / "neighbours" / "pairs.json").write_text(
        json.dumps({"pairs": [{"file": "pair_0.png", "kind": "nearest", "film": NASTY, "neighbour": "b", "distance": 1.0}]})
    )  # fmt: skip
    facts = {"id": NASTY, "truth": 1, "probability": 0.1, "threshold": 0.5, "seed": 0, "fold": 1}
    results = json.loads((folder / "results.json").read_text())
    results["gradcam"] = {"fn_0.png": facts, "n_0.png": {**facts, "id": "img001"}}
    (folder / "results.json").write_text(json.dumps(results))
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["ssl"] = {"films": 9, "knn_auc_before": 0.7, "knn_auc_after": 0.75}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    seal(bench, run)


def add_submissions(bench, run, scores=("0.91", "0.89")):
    for number, public in enumerate(scores):
        bench.ledger.add_submission(
            Submission(
                f"s{number}", "local", COMPETITION.slug, Path(f"{run.run_id}-{number}.csv"), "x", "m", "n",
                "2026-01-03T00:00:00.000Z", ref=number, status="COMPLETE", public_score=public,
                cv_score=0.9 - number / 100, cv_low=0.85, cv_high=0.95,
            )
        )  # fmt: skip


def shown(bench, tmp_path, **options):
    written = write_report(bench, tmp_path / "r.html", **options)
    text = written.path.read_text("utf-8")
    assert written.bytes == len(text.encode()) < 10_000_000
    return written, text


def test_a_workspace_without_runs_says_what_to_do_first(bench, tmp_path):
    written, text = shown(bench, tmp_path)
    assert written.runs == 0
    assert "Nothing has run yet" in text
    assert "harness push" in text


def test_a_place_that_cannot_be_written_is_told_and_nothing_is_left_there(bench, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report(bench, tmp_path / "file" / "r.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ConfigError, match="Name another place"):
        write_report(bench, tmp_path / "folder.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.html", "state"]


def test_one_run_without_a_report_of_its_own_is_enough(bench, tmp_path):
    run = add_run(bench, "ssl")
    (bench.outputs_folder(run) / "results.json").unlink()
    seal(bench, run)
    _, text = shown(bench, tmp_path)
    assert "ssl-cpu-1" in text
    assert f"{run.score_mean_fold:.4f}".rstrip("0") in text
    assert text.count('role="img"') == 4  # scores, ROC, precision and recall, calibration


def test_a_failed_run_and_damaged_outputs_are_lines_with_their_reasons(bench, tmp_path):
    add_run(bench, "ssl", failure=f"CUDA out of memory {NASTY}")
    broken = add_run(bench, "linear_probe", 0.7, seed=1)
    (bench.outputs_folder(broken) / "oof_predictions.csv").write_text("id\n")
    add_run(bench, "effnetv2_s", 0.7, seed=2)
    _, text = shown(bench, tmp_path)
    assert "CUDA out of memory" in text
    assert "oof_predictions.csv has" in text
    assert "Scores with intervals" in text


def test_everything_that_a_run_left_is_shown_and_what_others_wrote_is_text(bench, tmp_path):
    first, second = add_run(bench, "ssl"), add_run(bench, "effnetv2_s", 0.7, seed=1)
    add_extras(bench, first)
    add_extras(bench, second)
    add_submissions(bench, first)
    _, text = shown(bench, tmp_path)
    page = Tags(text)
    for title in (
        "Runs", "Side by side", "Submissions", "Learning curves", "SimSiam", "Confusion", "Grad-CAM",
        "Costs", "Disagreements", "Provenance",
    ):  # fmt: skip
        assert f">{title}</a>" in text, title
    assert page.tags.count("script") == 1
    assert page.tags.count("img") == 6
    assert NASTY in [
        value and value.split(" and its")[0].split(". ")[-1]
        for name, value in page.attributes
        if name == "alt"
    ]
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
    links = [value for name, value in page.attributes if name in ("href", "src")]
    assert all(link.startswith(("#", "data:")) for link in links)
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors


def test_runs_of_another_profile_are_compared_when_there_is_nobody_else(bench, tmp_path):
    add_run(bench, "ssl")
    add_run(bench, "effnetv2_s", 0.7, seed=1)
    bench.settings = replace(bench.settings, profile="full")
    assert "Members against the best" in shown(bench, tmp_path)[1]


def test_without_pictures_none_are_embedded(bench, tmp_path):
    add_extras(bench, add_run(bench, "ssl"))
    written, text = shown(bench, tmp_path, pictures=False)
    assert "data:image" not in text
    assert written.pictures_left_out == 0


def test_pictures_stop_at_the_budget_and_a_broken_one_stops_nothing(tmp_path):
    import cv2

    path, broken = tmp_path / "a.png", tmp_path / "b.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8))
    broken.write_bytes(path.read_bytes()[:100])
    uri = data_uri(path, 64)
    album = Album(left=len(uri) + 10)
    assert album.take(broken, 64) is None
    assert album.take(tmp_path / "missing.png", 64) is None
    assert album.take(path, 64) == uri
    assert album.take(path, 64) is None
    assert album.skipped == ["a.png"]


def test_histories_that_are_no_tables_are_passed_over(tmp_path):
    (tmp_path / "a_history.csv").write_text("epoch,loss\n1,x\n2,0.5\n")
    (tmp_path / "b_history.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "c_history.csv").write_text("")
    found = read_histories(tmp_path)
    assert list(found) == ["a_history"]
    assert np.isnan(found["a_history"]["loss"][0])


# ---- colours and the browser ---------------------------------------------------------------------


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [r":root \{", r':root\[data-theme="dark"\] \{'])
def test_words_have_contrast_and_lines_can_be_seen(theme):
    style = asset("style.css")
    block = re.search(theme + r"(.*?)\n\}", style, re.DOTALL).group(1)
    colours = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6})", block))
    for ground in ("bg", "card"):
        for name in ("ink", "dim", "link", "ok", "bad", "busy"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        for number in range(8):  # WCAG 1.4.11: graphics need 3:1
            assert contrast(colours[f"s{number}"], colours[ground]) >= 3.0, number


def test_the_dark_colours_for_readers_without_scripts_are_the_same():
    blocks = re.findall(r"color-scheme: dark;(.*?)\}", asset("style.css"), re.DOTALL)
    assert len(blocks) == 2
    assert blocks[0].split() == blocks[1].split()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    with open_workbench(Settings(ROOT, folder / "state", profile="cpu"), print) as bench:
        for number, name in enumerate(("ssl", "effnetv2_s", "linear_probe")):
            add_extras(bench, add_run(bench, name, 0.7 if number else 0.9, seed=number))
        add_submissions(bench, bench.ledger.runs()[0])
        return write_report(bench, folder / "report.html").path.as_uri()


@pytest.fixture(scope="module")
def browser():
    with Browser() as found:
        yield found


class TestInTheBrowser:
    pytestmark = needs_chromium

    @pytest.mark.parametrize(
        ("width", "dark"), [(1200, False), (1200, True), (390, False), (390, True), (320, False)]
    )
    def test_it_fits_without_a_complaint_and_asks_for_nothing(self, browser, page, width, dark):
        browser.size(width, 900, width < 500, dark)
        browser.open(page)
        assert browser.complaints() == []
        assert [url for url in browser.requested() if not url.startswith("data:")] == [page]
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate("document.title") != "owned"
        ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(18, 22, 26)") is dark
        small = browser.evaluate(
            "Math.min(...[...document.querySelectorAll('svg text')].map(t => "
            "parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.clientWidth / "
            "t.ownerSVGElement.viewBox.baseVal.width))"
        )
        assert small >= (9 if width >= 390 else 7.5)

    def test_everything_has_a_name_and_headings_are_in_order(self, browser, page):
        browser.size(1200, 900)
        browser.open(page)
        unnamed = browser.evaluate(
            "[...document.querySelectorAll('svg[role=img],img,button,[role=region],[role=group]')].filter(e => "
            "!(e.getAttribute('aria-label') || e.alt || e.textContent.trim())).length"
        )
        assert unnamed == 0
        levels = browser.evaluate(
            "[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])"
        )
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))

    def test_arrow_keys_walk_through_a_charts_points(self, browser, page):
        browser.size(1200, 900)
        browser.open(page)
        browser.evaluate("document.querySelector('svg[role=img]').focus()")
        said = []
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "Escape"):
            browser.evaluate(
                f"document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}'}}))"
            )
            hidden, words = browser.evaluate(
                "(t => [t.hidden, t.textContent])(document.getElementById('tip'))"
            )
            said.append("" if hidden else words)
        assert said[0] and said[1] and said[0] != said[1]
        assert said[2] == said[0]
        assert said[3] == ""

    def test_a_pointer_near_a_point_brings_up_its_words(self, browser, page):
        browser.size(1200, 900)
        browser.open(page)
        x, y = browser.evaluate(
            "(c => { c.scrollIntoView({block: 'center'}); const b = c.getBoundingClientRect();"
            "return [b.left + b.width / 2, b.top + b.height / 2] })"
            "(document.querySelector('svg[role=img] circle:not(.ghost)'))"
        )
        seen = False
        for step in range(20):  # scrolling, which hides the words, ends in its own time
            browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + step % 4, y=y)
            seen = seen or browser.evaluate("!document.getElementById('tip').hidden")
        assert seen

    def test_theme_and_runs_are_switched_by_buttons(self, browser, page):
        browser.size(1200, 900, dark=True)
        browser.open(page)
        browser.evaluate("document.getElementById('theme').click()")
        assert (
            browser.evaluate("getComputedStyle(document.body).backgroundColor")
            == "rgb(246, 247, 248)"
        )
        count = "[...document.querySelectorAll('.line[data-s=\"1\"]')].filter(e => getComputedStyle(e).visibility == 'visible').length"  # fmt: skip
        before = browser.evaluate(count)
        assert before > 0
        browser.evaluate("document.querySelector('.legend button[data-slot=\"1\"]').click()")
        assert browser.evaluate(count) == 0
        browser.evaluate("document.querySelector('.legend button[data-slot=\"1\"]').click()")
        assert browser.evaluate(count) == before

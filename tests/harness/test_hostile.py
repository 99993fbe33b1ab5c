"""Whatever comes from outside is read whole or refused with one of our errors: never obeyed, never a traceback.

HARNESS_FUZZ=20000 runs that many cases of each property instead of the default 120.
"""

import ast
import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import reading
from harness.commands.import_member import complete_test, read_foreign
from harness.emulator import State, archives
from harness.errors import ConfigError, HarnessError
from harness.gate import read_submission
from harness.outputs import read_manifest, read_metrics, read_table
from harness.provenance import read_record
from harness.records import Handle
from harness.remote import log_text
from harness.terminal import plain
from kernels.config import Competition
from kernels.contract import is_safe_relative, manifest_faults, oof_columns

ROOT = Path(__file__).resolve().parents[2]
CASES = int(os.environ.get("HARNESS_FUZZ", "120"))
FUZZ = settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=CASES == 120,  # the suite repeats itself; the long run looks elsewhere each time
    database=None,
)
COMPETITION = Competition("c", "C", "image_id", ("label",))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=20,
)
GOOD_MANIFEST = {
    "schema_version": 1,
    "spec": {},
    "script_sha256": "a" * 64,
    "config": {},
    "versions": {},
    "files": [
        {"path": name, "size": 1, "sha256": "b" * 64}
        for name in ("metrics.json", "oof_predictions.csv", "test_predictions.csv")
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


# ---- names ---------------------------------------------------------------------------------------

NAMES = st.lists(
    st.sampled_from(["..", ".", "", "a", "\0", "\\", "x" * 300, "\ud800", "\x1b[2J", "C:", "~", "é", "\n"])
    | st.text(max_size=8),
    max_size=6,
).map("/".join)  # fmt: skip


@FUZZ
@given(NAMES)
def test_a_safe_name_stays_below_its_folder_and_can_be_written(folder, name):
    if not is_safe_relative(name):
        return
    path = folder / "names" / name
    assert (folder / "names") in path.parents
    assert os.path.normpath(path) == str(path)
    with contextlib.suppress(NotADirectoryError, FileExistsError, IsADirectoryError):
        path.parent.mkdir(parents=True, exist_ok=True)  # an earlier case may have made it a file
        path.write_bytes(b"")


@pytest.mark.parametrize(
    "name",
    ["../a", "/etc/passwd", "a/../../b", "a//b", "", "a\\b", "a\0b", "x" * 300, "\ud800", "a/./b", "\x1b]0;t\x07"],
)  # fmt: skip
def test_names_that_leave_or_cannot_be_are_refused(name):
    assert not is_safe_relative(name)


@FUZZ
@given(st.text(max_size=60) | st.from_regex(r"[a-z]+/[a-z]+(/versions/[0-9]+)?\n?", fullmatch=True))
def test_a_handle_is_read_back_or_refused(text):
    try:
        handle = Handle.parse(text)
    except ConfigError:
        return
    assert Handle.parse(str(handle)) == handle
    assert "\n" not in text


# ---- manifests, metrics, records -----------------------------------------------------------------


def mutated(draw_value):
    """A good manifest with one thing replaced by anything."""
    keys = st.sampled_from([*GOOD_MANIFEST, "complete", "resume"])
    whole = st.tuples(keys, draw_value).map(lambda pair: {**GOOD_MANIFEST, pair[0]: pair[1]})
    parts = st.tuples(st.sampled_from(["path", "size", "sha256"]), draw_value | NAMES).map(
        lambda pair: {
            **GOOD_MANIFEST,
            "files": [*GOOD_MANIFEST["files"], {"path": "x", "size": 1, "sha256": "c" * 64, pair[0]: pair[1]}],
        }
    )  # fmt: skip
    unfinished = st.dictionaries(
        st.sampled_from(["key", "session", "seconds", "stage", "done", "left"]), draw_value
    ).map(lambda resume: {**GOOD_MANIFEST, "complete": False, "resume": resume})
    return whole | parts | unfinished | draw_value


@FUZZ
@given(mutated(ANY_JSON))
def test_a_manifest_is_read_or_refused(folder, manifest):
    faults = manifest_faults(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    try:
        read = read_manifest(folder, "run", None)
    except HarnessError:
        assert faults or "resume" in str(manifest)
        return
    assert not faults
    for entry in read["files"]:
        assert is_safe_relative(entry["path"])
        assert entry["size"] >= 0


@FUZZ
@given(st.binary(max_size=200) | ANY_JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_in_place_of_a_json_file_end_in_a_traceback(folder, data):
    for name, read in (
        ("manifest.json", lambda path: read_manifest(path.parent, "run", "a" * 64)),
        ("metrics.json", lambda path: read_metrics(path, "run")),
        ("record.json", read_record),
    ):
        path = folder / "bytes" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        with contextlib.suppress(HarnessError):
            read(path)


def test_a_manifest_of_brackets_is_refused(folder):
    (folder / "manifest.json").write_text("[" * 200_000)
    with pytest.raises(HarnessError):
        read_manifest(folder, "run", None)


# ---- tables --------------------------------------------------------------------------------------

CELLS = st.sampled_from(
    ["", "0", "1", "0.5", "nan", "inf", "-1", "1e400", "=1+1", '=HYPERLINK("x")', "NA", "null", "a.png",
     '"', '""', "'", "\0", "0,5", "9" * 400, "\ufeff", "\x1b[31m", "True"]
) | st.text(max_size=6)  # fmt: skip
HEADERS = st.sampled_from(
    ["id,seed,fold,target_label,pred_label", "image_id,label", "id,pred_label", "id;label", "id\tlabel", "",
     "id,id,label", "\ufeffid,label", "label", "id,seed,fold,label"]
)  # fmt: skip


@st.composite
def csv_bytes(draw):
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    rows = draw(st.lists(st.lists(CELLS, max_size=6).map(",".join), max_size=8))
    text = draw(HEADERS) + newline + newline.join(rows)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    return text.encode(encoding, "replace")


@FUZZ
@given(csv_bytes() | st.binary(max_size=300))
def test_no_table_ends_in_a_traceback(folder, data):
    path = folder / "table.csv"
    path.write_bytes(data)
    with contextlib.suppress(HarnessError):
        frame = read_table(path, oof_columns(("label",)), "run")
        assert frame["pred_label"].between(0, 1).all()
    with contextlib.suppress(HarnessError):
        read_submission(path, "image_id")
    with contextlib.suppress(HarnessError):
        complete_test(read_foreign(path, COMPETITION), COMPETITION, path)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_marks_and_line_ends_of_other_systems_change_nothing(tmp_path, newline, mark):
    path = tmp_path / "mine.csv"
    path.write_bytes((mark + newline.join(["image_id,label", "NA,0.25", "007,0.5", ""])).encode())
    frame = read_submission(path, "image_id")
    assert list(frame["image_id"]) == ["NA", "007"]
    assert list(frame["label"].astype(float)) == [0.25, 0.5]


def test_lines_that_end_in_two_ways_are_lines(tmp_path):
    path = tmp_path / "mixed.csv"
    path.write_bytes(b"image_id,label\r\na,0.1\nb,0.2\r\nc,0.3\n")
    assert list(read_submission(path, "image_id")["image_id"]) == ["a", "b", "c"]


@pytest.mark.parametrize(("separator", "word"), [(";", "semicolons"), ("\t", "tabs")])
def test_another_separator_is_named(tmp_path, separator, word):
    path = tmp_path / "mine.csv"
    path.write_text(f"image_id{separator}label\na{separator}0.5\n")
    with pytest.raises(HarnessError, match=f"separated by {word}"):
        read_submission(path, "image_id")


def test_a_formula_is_no_prediction(tmp_path):
    path = tmp_path / "oof.csv"
    path.write_text("id,seed,fold,target_label,pred_label\na,0,0,1,=1/2\n")
    with pytest.raises(HarnessError, match="bad rows"):
        read_table(path, oof_columns(("label",)), "run")


def test_a_table_too_large_for_memory_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "ten-million-rows.csv"
    with path.open("wb") as handle:
        handle.write(b"image_id,label\n")
        handle.truncate(
            10_000_000 * 31
        )  # as long as ten million rows; sparse, so the disk has none of it
    assert path.stat().st_size > reading.TABLE_LIMIT_BYTES
    with pytest.raises(HarnessError, match="tables are read up to 134 MB"):
        read_submission(path, "image_id")


# ---- logs ----------------------------------------------------------------------------------------


@FUZZ
@given(st.text(max_size=200) | ANY_JSON.map(json.dumps))
def test_a_log_is_text_whatever_was_served(served):
    shown = plain(log_text(served))
    assert not set(shown) & {chr(n) for n in (*range(9), *range(11, 32), *range(127, 160))}


def test_what_a_terminal_would_obey_is_left_out_of_a_log():
    served = json.dumps(
        [{"data": "\x1b[2Jgone\x1b]0;title\x07 \x9b31m \x1bP1$r\x1b\\ \u202eabc\u2066 \r10%\n"}]
    )
    assert plain(log_text(served)) == "gone 31m  abc 10%\n"


# ---- archives ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    made = State(tmp_path_factory.mktemp("archives"))
    yield made
    made.close()


@st.composite
def archive_bytes(draw):
    """A zip or tar with any names in it, perhaps with some bytes of it damaged."""
    import io
    import tarfile
    import warnings
    import zipfile

    names = draw(st.lists(NAMES, max_size=4))
    buffer = io.BytesIO()
    kind = draw(st.sampled_from([".zip", ".tar", ".tar.gz"]))
    with (
        contextlib.suppress(ValueError, UnicodeError, OSError, IndexError),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        if kind == ".zip":
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
                for name in names:
                    packed.writestr(name, b"x" * draw(st.integers(0, 2000)))
        else:
            with tarfile.open(fileobj=buffer, mode="w:gz" if kind == ".tar.gz" else "w") as tar:
                for name in names:
                    member = tarfile.TarInfo(name or "empty")
                    member.type = draw(
                        st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
                    )  # fmt: skip
                    member.linkname = "/etc/passwd"
                    tar.addfile(member)
    data = bytearray(buffer.getvalue())
    for _ in range(draw(st.integers(0, 3))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] ^= draw(st.integers(1, 255))
    return kind, bytes(data)


@FUZZ
@given(archive_bytes())
def test_an_archive_is_unpacked_below_its_folder_or_refused(folder, state, archive):
    kind, data = archive
    path = folder / f"data{kind}"
    path.write_bytes(data)
    try:
        found = archives.unpack(state, path, path.name)
    except archives.ArchiveRefused:
        return
    for name, _ in found or []:
        assert name.startswith("data/")
        assert ".." not in name.split("/")
        assert "\0" not in name


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path, state):
    import zipfile

    bomb = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("zeros", "w") as out,
    ):
        for _ in range(300):
            out.write(bytes(1 << 20))
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(archives.ArchiveRefused, match="absurd size"):
        archives.unpack(state, bomb, bomb.name)


# ---- nothing that was downloaded is executed -----------------------------------------------------

RUNS_CODE = {"eval", "exec", "__import__"}
LOADS_CODE = {("pickle", "load"), ("pickle", "loads"), ("joblib", "load"), ("marshal", "loads"),
              ("shelve", "open"), ("dill", "load"), ("yaml", "load"), ("runpy", "run_path")}  # fmt: skip


def calls_of(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield node


def test_checkpoints_hold_tensors_only_and_nothing_downloaded_is_run():
    seen = 0
    for path in [*(ROOT / "harness").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]:
        for call in calls_of(path):
            where = f"{path.relative_to(ROOT)}:{call.lineno}"
            keywords = {word.arg: ast.unparse(word.value) for word in call.keywords}
            if isinstance(call.func, ast.Name):
                assert call.func.id not in RUNS_CODE, where
            if not isinstance(call.func, ast.Attribute):
                continue
            pair = (ast.unparse(call.func.value), call.func.attr)
            assert pair not in LOADS_CODE, where
            if pair == ("torch", "load"):
                seen += 1
                assert keywords.get("weights_only") == "True", where
            if pair == ("np", "load"):
                seen += 1
                # numpy's default is False since 1.16.3
                assert keywords.get("allow_pickle", "False") == "False", where
    assert seen >= 3  # else the walk looks at nothing


def test_the_secret_of_a_local_kaggle_is_for_its_owner_only(state):
    with state.write() as db:
        db.execute("UPDATE settings SET value = value")
    for path in state.folder.glob("state.sqlite*"):
        assert path.stat().st_mode & 0o077 == 0, path

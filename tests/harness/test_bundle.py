"""Flattening keeps what a package means, or refuses it: golden text, equal results, refusals.

The golden file is tests/golden/toy_bundle.py.txt; ``pytest --update-golden`` rewrites it.
"""

import ast
import json
import random
import subprocess
import symtable
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bundle import Bundle, _module_bindings, bundle, check_size
from harness.errors import BundleError

TOY = {
    "kernels/__init__.py": '"""A toy package."""\n',
    "kernels/blocks/__init__.py": "",
    "kernels/blocks/losses.py": '''\
"""Losses of the toy.

Pure functions; a second paragraph with a \\\\ backslash.
"""

import math
import os.path as osp
from collections.abc import (
    Iterable,  # trailing comments of imports go
    Sequence,
)
from typing import TYPE_CHECKING

# why eps: log(0)
EPSILON = 1e-7  # a comment that stays

if TYPE_CHECKING:
    from decimal import Decimal

NOTE = """a string



with import math and blank lines that are data
"""


def cross_entropy(probs: Sequence[float], targets: Iterable[int]) -> float:
    """Mean cross-entropy; ``probs`` has shape (N,)."""
    from statistics import fmean  # an outside import in a function stays

    terms = [
        -math.log(max(p if t else 1 - p, EPSILON)) for p, t in zip(probs, targets, strict=True)
    ]
    return fmean(terms)



def exact(value: "Decimal") -> str:
    return osp.basename(str(value))
''',
    "kernels/config.py": '''\
# A comment above the docstring.
"""One line."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ToyConfig:
    offset: float = 0.25

    # two kinds of quotes survive
    name: str = 'toy'
''',
    "kernels/toy.py": '''\
"""The toy's story: one number and a few letters."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from kernels.blocks.losses import NOTE, cross_entropy
from kernels.config import ToyConfig


def run(config: ToyConfig, out: Path, probs: Sequence[float] = (0.5, 0.75)) -> None:
    loss = cross_entropy([p - config.offset for p in probs], [0, 1])
    out.write_text(json.dumps({"loss": loss, "up": math.ceil(loss), "note": NOTE}))
''',
}


def write_package(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def bundle_of(root: Path, **modules: str) -> Bundle:
    """Bundle modules given as name=source; every one of them is an entry."""
    write_package(root, {f"kernels/{name}.py": text for name, text in modules.items()})
    return bundle([f"kernels.{name}" for name in modules], root)


def refusal(root: Path, **modules: str) -> str:
    """The refusal of modules given as name=source, with its hint checked to be there."""
    with pytest.raises(BundleError) as caught:
        bundle_of(root, **modules)
    assert caught.value.hint
    return str(caught.value)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return write_package(tmp_path / "toy", TOY)


# ---- what comes out ------------------------------------------------------------------------------


def test_toy_bundle_equals_the_golden_file(toy: Path, golden: Callable[[str, str], None]) -> None:
    result = bundle(["kernels.toy"], toy)
    assert result.modules == ("kernels.blocks.losses", "kernels.config", "kernels.toy")
    assert {"ToyConfig", "cross_entropy", "run", "json", "osp"} <= result.names
    golden("toy_bundle.py.txt", result.source)


def test_flattened_toy_gives_the_same_result_as_the_package(toy: Path, tmp_path: Path) -> None:
    call = "\nrun(ToyConfig(offset=0.1), Path({!r}))\n"
    head = "from pathlib import Path\nfrom kernels.toy import ToyConfig, run\n"
    script = bundle(["kernels.toy"], toy).source
    for name, text, folder in (("package", head, toy), ("script", script, tmp_path)):
        out = tmp_path / f"{name}.json"
        path = folder / f"{name}.py"
        path.write_text(text + call.format(str(out)), encoding="utf-8")
        subprocess.run([sys.executable, "-I", "-c", RUN_WITH_PATH, path], check=True, cwd=folder)
    results = [
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("package", "script")
    ]
    assert results[0] == results[1]
    assert results[0]["note"].count("\n") == 5


RUN_WITH_PATH = """
import os, runpy, sys
sys.path.insert(0, os.getcwd())
runpy.run_path(sys.argv[1], run_name="__main__")
assert ("kernels" in sys.modules) == sys.argv[1].endswith("package.py")
"""


def test_toy_bundle_has_no_undefined_names(toy: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(bundle(["kernels.toy"], toy).source, encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache"]
    checked = subprocess.run(
        [*command, "--select", "F821,F811,E9", script], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(sorted(TOY)), seed=st.integers(0, 9))
def test_order_of_files_and_entries_is_irrelevant(
    tmp_path_factory: pytest.TempPathFactory, order: list[str], seed: int
) -> None:
    root = write_package(tmp_path_factory.mktemp("order"), {name: TOY[name] for name in order})
    entries = ["kernels.toy", "kernels.config", "kernels.blocks.losses", "kernels.toy"]
    random.Random(seed).shuffle(entries)
    reference = write_package(tmp_path_factory.mktemp("reference"), TOY)
    assert bundle(entries, root) == bundle(["kernels.toy"], reference)


def test_imports_are_merged_sorted_and_wrapped(tmp_path: Path) -> None:
    long = ", ".join(f"name_number_{index:02}" for index in range(9))
    result = bundle_of(
        tmp_path,
        a=f"import numpy as np\nimport os.path\nfrom x import b as c, a\nfrom wide import {long}\n",
        b="import numpy\nimport numpy as np\nimport os\nfrom x import (\n    a,\n    D,\n)\n",
    )
    wide = "".join(f"    name_number_{index:02},\n" for index in range(9))
    assert result.imports == (
        "import os\nimport os.path\n\nimport numpy\nimport numpy as np\n"
        f"from wide import (\n{wide})\nfrom x import D, a, b as c\n"
    )


def test_future_import_in_every_module_is_emitted_once_and_first(tmp_path: Path) -> None:
    future = "from __future__ import annotations\n"
    result = bundle_of(
        tmp_path,
        a=f'"""A."""\n{future}import os\n',
        b=f"{future}x: Missing\n".replace("Missing", "int"),
    )
    assert result.source.startswith(f"{future}\nimport os\n")
    assert result.source.count("__future__") == 1


def test_conditional_outside_imports_stay_in_place(tmp_path: Path) -> None:
    text = "try:\n    import cv2\nexcept ImportError:\n    cv2 = None\n\nsize = cv2\n"
    result = bundle_of(tmp_path, a=text)
    assert result.imports == ""
    assert text in result.source


def test_blank_lines_and_line_ends_are_normalised_outside_strings(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels/a.py").write_bytes(
        b"\xef\xbb\xbf\r\n\r\nx = 1   \r\n\r\n\r\n\r\n\r\ny = '''\r\n \r\n\r\n\r\n\r\n'''\r\n\r\n"
    )
    body = bundle(["kernels.a"], tmp_path).body
    assert body.partition("\n")[2] == "x = 1\n\n\ny = '''\n \n\n\n\n'''\n"


def test_module_of_imports_only_leaves_its_banner(tmp_path: Path) -> None:
    assert (
        bundle_of(tmp_path, a="import os\n").body == "# ---- kernels/a.py ".ljust(100, "-") + "\n"
    )


def test_reexported_names_and_shared_local_names_are_fine(tmp_path: Path) -> None:
    result = bundle_of(
        tmp_path,
        a="def one():\n    total = 1\n    return total\n",
        b="from kernels.a import one\n\n\ndef two(total):\n    return one() + total\n",
        c="from kernels.b import one, two\n\nTHREE = two(2) + one() - 1\n",
    )
    scope: dict[str, object] = {}
    exec(result.source, scope)
    assert scope["THREE"] == 3


# ---- what is refused -----------------------------------------------------------------------------

SECOND = "def helper():\n    return 1\n"

FORMS = [  # source of kernels/a.py (kernels/b.py defines helper), line, part of the message
    ("import kernels.b\n", 1, "imports a module of kernels"),
    ("\nimport kernels\n", 2, "imports a module of kernels"),
    ("def f():\n    import kernels.b as b\n", 2, "imports a module of kernels"),
    ("from kernels import b\n", 1, "names the package kernels"),
    ("from kernels.sub import c\n", 1, "names the package kernels.sub"),
    ("from kernels.b import helper as h\n", 1, "without an alias"),
    ("from kernels.b import helper as helper\n", 1, "without an alias"),
    ("from kernels.b import *\n", 1, "star import"),
    ("import os\nfrom math import *\n", 2, "star import"),
    ("from .b import helper\n", 1, "relative import"),
    ("from . import b\n", 1, "relative import"),
    ("def f():\n    from kernels.b import helper\n", 2, "inside a function"),
    ("class C:\n    from kernels.b import helper\n", 2, "inside a function, class"),
    ("try:\n    from kernels.b import helper\nexcept ImportError:\n    pass\n", 2, "block"),
    (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from kernels.b import helper\n",
        3,
        "Move the import to module level",
    ),
    ("import importlib\nx = importlib.import_module('kernels.b')\n", 2, "by a call"),
    ("x = __import__('kernels')\n", 1, "by a call"),
    ("x = 1\nif __name__ == '__main__':\n    x = 2\n", 2, "__name__"),
    ("if '__main__' == __name__ and 1:\n    x = 2\n", 1, "__name__"),
    ("__all__ = ['f']\n\n\ndef f(): ...\n", 1, "__all__"),
    ("from kernels.b import helpr\n", 1, "Did you mean 'helper'?"),
    ("from kernels.b import zzz\n", 1, "does not define"),
    ("from kernels.nowhere import x\n", 1, "kernels/nowhere.py, which does not exist"),
    ("x = 1\ndef f(:\n", 2, "not valid Python"),
    ("def f():\n    y = x\n    global x\n", 3, "not valid Python"),
    ("import os; x = 1\n", 1, "its own line"),
    ('"""Doc."""; x = 1\n', 1, "its own line"),
    ("x = 1\nimport os\n", 2, "imports after the code of line 1"),
    ("print(1)\nimport os\n", 2, "imports after the code of line 1"),
    ("import numpy as np\nnp = 1\n", 2, "binds 'np' again"),
    ("from x import a\nfrom y import a\n", 2, "binds 'a' again"),
    ("from kernels.b import helper\ndef helper(): ...\n", 2, "binds 'helper' again"),
    ("def sum(values): ...\n", 1, "hides the builtin"),
    ("from numpy import round\n", 1, "hides the builtin"),
    ("def f():\n    return np.zeros(1)\n", 2, "uses 'np'"),
    ("class C:\n    x = helper\n", 2, "uses 'helper'"),
    ("def f(x: Tensor): ...\n", 1, "uses 'Tensor'"),
    ("def f():\n    return [__doc__ for _ in range(2)]\n", 2, "uses '__doc__'"),
    ("x = kernels\n", 1, "uses 'kernels'"),
]


@pytest.mark.parametrize(("source", "line", "part"), FORMS)
def test_refuses_what_flattening_would_change(
    tmp_path: Path, source: str, line: int, part: str
) -> None:
    write_package(tmp_path, {"kernels/sub/c.py": "", "kernels/b.py": SECOND})
    message = refusal(tmp_path, a=source)
    assert message.startswith(f"kernels/a.py:{line} ")
    assert part in message


BINDINGS = [  # ways in which kernels/b.py can bind `x`, which kernels/a.py defines too
    "def x(): ...",
    "async def x(): ...",
    "class x: ...",
    "x = 2",
    "x: int = 2",
    "x: int",
    "y, (x, *z) = 1, (2, 3)",
    "y, (z, *x) = 1, (2, 3)",
    "y = x = 2",
    "y = 1\ny += (x := 2)",
    "y = [(x := i) for i in range(3)]",
    "y = lambda z=(x := 1): z",
    "if 1:\n    x = 2",
    "if 1:\n    pass\nelse:\n    x = 2",
    "try:\n    pass\nexcept ValueError:\n    x = 2",
    "try:\n    pass\nexcept ValueError as x:\n    pass",
    "try:\n    pass\nfinally:\n    x = 2",
    "with open('f') as x:\n    pass",
    "for x in range(3):\n    pass",
    "for y in range(3):\n    pass\nelse:\n    x = 1",
    "while 1:\n    x = 2",
    "match 1:\n    case x:\n        pass",
    "match [1]:\n    case [1, *x]:\n        pass",
    "match {}:\n    case {'k': 1, **x}:\n        pass",
    "def y():\n    global x\n    x = 2",
    "class y:\n    def z(self):\n        global x\n        x = 2",
    "import x",
    "import x.y",
    "import y as x",
    "from y import x",
    "from y import z as x",
    "if 1:\n    import x",
    "def y(z=(x := 1)): ...",
    "class y(object if (x := 1) else object): ...",
]


@pytest.mark.parametrize("source", BINDINGS)
def test_refuses_a_name_bound_in_two_modules(tmp_path: Path, source: str) -> None:
    message = refusal(tmp_path, a="\nx = 1\n", b=source + "\n")
    assert message.startswith("kernels/b.py:")
    assert "binds 'x'" in message
    assert "kernels/a.py:2" in message


@pytest.mark.parametrize("source", [*BINDINGS, *TOY.values(), "y = [x for x in (1, 2)]", "x += 1"])
def test_bindings_are_those_of_pythons_own_symbol_table(source: str) -> None:
    def declared_global(table: symtable.SymbolTable) -> set[str]:
        found = {s.get_name() for s in table.get_symbols() if s.is_declared_global()}
        return found.union(*map(declared_global, table.get_children()))

    table = symtable.symtable(source, "toy", "exec")
    bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    bound |= {s.get_name() for s in table.get_symbols() if s.is_annotated() or s.is_namespace()}
    tree = ast.parse(source)
    found = {name for name, _ in _module_bindings(tree.body, ast.walk(tree))}
    assert found == bound | declared_global(table)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("from torch.nn import functional as F\n", "F = 3\n"),
        ("import x as y\n", "import z as y\n"),
        ("from datetime import datetime\n", "import datetime\n"),
        ("import cv2\n", "try:\n    import cv2\nexcept ImportError:\n    cv2 = None\n"),
        ("def _norm(): ...\n", "def _norm(): ...\n"),
        ("logger = 1\n", "logger = 1\n"),
    ],
)
def test_refuses_two_meanings_of_an_imported_or_private_name(
    tmp_path: Path, first: str, second: str
) -> None:
    assert "rename one of them" in refusal(tmp_path, a=first, b=second)
    assert "rename one of them" in refusal(tmp_path / "swapped", a=second, b=first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("import numpy as np\n", "import numpy as np\n"),
        ("import os\n", "import os.path\n"),
        ("from torch.nn import functional as F\n", "import torch.nn.functional as F\n"),
        (
            "from torch import Tensor\n",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from torch import Tensor\n",
        ),
    ],
)
def test_the_same_import_in_two_modules_is_fine(tmp_path: Path, first: str, second: str) -> None:
    assert bundle_of(tmp_path, a=first, b=second).modules == ("kernels.a", "kernels.b")


def test_refuses_cycles_by_name(tmp_path: Path) -> None:
    message = refusal(
        tmp_path,
        a="import os\n\nfrom kernels.b import y\n\nx = 1\n",
        b="from kernels.c import z\n\ny = 1\n",
        c="from kernels.a import x\n\nz = 1\n",
    )
    assert "kernels/c.py:1" in message
    assert "kernels.a -> kernels.b -> kernels.c -> kernels.a" in message


def test_refuses_a_module_that_imports_itself(tmp_path: Path) -> None:
    assert "kernels.a -> kernels.a" in refusal(tmp_path, a="from kernels.a import x\n")


def test_refuses_future_imports_in_some_modules_only(tmp_path: Path) -> None:
    message = refusal(tmp_path, a="x = 1\n", b="from __future__ import annotations\ny = 2\n")
    assert "kernels/b.py:1 imports annotations from __future__; kernels/a.py does not" in message


@pytest.mark.parametrize("entry", ["harness.bundle", "kernels..a", "kernels.a/../b", "", "kernels"])
def test_refuses_entries_that_are_no_modules_of_kernels(tmp_path: Path, entry: str) -> None:
    write_package(tmp_path, {"kernels/a.py": ""})
    with pytest.raises(BundleError, match=r"entry module '.*'"):
        bundle([entry], tmp_path)


def test_refuses_code_in_a_package_file_that_the_script_would_lose(tmp_path: Path) -> None:
    code = '"""Fine."""\n\nVALUE = 1\n'
    write_package(tmp_path, {"kernels/sub/__init__.py": code, "kernels/sub/a.py": ""})
    with pytest.raises(BundleError, match=r"kernels/sub/__init__\.py:3 holds code"):
        bundle(["kernels.sub.a"], tmp_path)


def test_refuses_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    write_package(tmp_path, {"kernels/a.py": ""})
    (tmp_path / "kernels/a.py").write_bytes(b"x = '\xff'\n")
    with pytest.raises(BundleError, match=r"kernels/a\.py:1 cannot be read"):
        bundle(["kernels.a"], tmp_path)


def test_refuses_names_that_the_template_binds(tmp_path: Path) -> None:
    write_package(tmp_path, {"kernels/a.py": "\ndef main(): ...\n"})
    with pytest.raises(BundleError, match=r"kernels/a\.py:2 binds 'main'"):
        bundle(["kernels.a"], tmp_path, reserved={"main", "CONFIG"})


# ---- size ----------------------------------------------------------------------------------------


def test_size_guard_is_silent_then_warns_then_refuses(tmp_path: Path) -> None:
    def source(count: int) -> str:
        return bundle_of(tmp_path, big=f"X = '{'é' * count}'\n", tiny="Y = 1\n").source

    assert check_size(source(1000)) == []
    (warning,) = check_size(source(300_000))
    assert "600 kB" in warning
    assert "kernels/big.py 600 kB" in warning
    with pytest.raises(BundleError, match=r"920 kB; the limit is 900 kB \(largest: kernels/big"):
        check_size(source(460_000))


def test_size_guard_reads_any_source() -> None:
    assert len(check_size("#" * 600_000)) == 1

"""Modules of ``kernels`` -> one source text: follows imports, refuses what flattening would change.

Flattening puts every module into one namespace, so each rule below guards against a script that
runs but means something else. Module-level names are unique across the bundled modules, each module
binds what it uses (a missing import must not be healed by a neighbour), and ``kernels`` is imported
by name, at module level, without aliases. What a quoted annotation names is left to ruff (F821) on
the rendered script. Outside imports at module level move to the top and lose their trailing
comments; those inside functions, ``if`` or ``try`` stay where they are, ``if TYPE_CHECKING:``
included.

Reads text, runs nothing; the same files always give the same bytes.
"""

import ast
import builtins
import difflib
import re
import symtable
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from harness.errors import BundleError

PACKAGE = "kernels"
WIDTH = 100  # columns of a banner and of a hoisted import
WARN_BYTES = 500_000
REFUSE_BYTES = 900_000  # Kaggle itself refuses sources over about 1 MiB

# Given to every script by Python. Not __doc__ and __package__: a script's differ from a module's.
IMPLICIT_NAMES = frozenset({"__file__", "__name__"})
BUILTIN_NAMES = frozenset(name for name in dir(builtins) if not name.startswith("_"))
DUNDER_BUILTINS = frozenset({"__build_class__", "__debug__", "__import__"})


@dataclass(frozen=True)
class Bundle:
    """Modules as one text, in the two parts that a template places."""

    modules: tuple[str, ...]  # dotted names, leaves first
    imports: str  # __future__ first, then standard library, then the rest; "" when there are none
    body: str  # the modules under their banners
    names: frozenset[str]  # every name bound at module level: what a template must not bind again

    @property
    def source(self) -> str:
        """The whole text: imports, then body."""
        return f"{self.imports}\n\n{self.body}" if self.imports else self.body


def bundle(
    entry_modules: Sequence[str],
    root: Path,
    reserved: Collection[str] = (),
    given: Collection[str] = (),
) -> Bundle:
    """Flatten modules and everything they import from ``kernels`` into one source text.

    Args:
        entry_modules: Dotted names, e.g. ("kernels.pipelines.features",), in any order.
        root: Folder that holds the ``kernels`` package.
        reserved: Names that the text around the bundle binds (CONFIG, main); modules may not.
        given: Modules that stand above already: checked with the others and not repeated.

    Raises:
        BundleError: With file, line and what to edit. The module's docstring says what is refused.
    """
    loader = _Loader(root)
    for name in sorted(set(entry_modules)):
        loader.load(name, f"entry module {name!r}", ())
    modules = loader.ordered
    _check_imported_names(modules)
    _check_unique_names(modules, reserved)
    _check_future(modules)
    modules = [module for module in modules if module.name not in given]
    result = Bundle(
        modules=tuple(module.name for module in modules),
        imports=_import_block(modules),
        body="\n\n".join(module.section for module in modules),
        names=frozenset(name for module in modules for name in module.bindings),
    )
    compile(result.source, "<bundle>", "exec", dont_inherit=True)  # a failure here is our own fault
    return result


def check_size(source: str) -> list[str]:
    """Warnings about a script's size: none up to 500 kB.

    Raises:
        BundleError: Over 900 kB, naming the largest modules.
    """
    size = len(source.encode())
    if size <= WARN_BYTES:
        return []
    pieces = re.split(rf"^# ---- ({PACKAGE}/\S+\.py) -*$", source, flags=re.MULTILINE)
    sizes = [
        (len(text.encode()), path) for path, text in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    largest = ", ".join(
        f"{path} {_kilobytes(count)}" for count, path in sorted(sizes, reverse=True)[:3]
    )
    detail = f" (largest: {largest})" if largest else ""
    if size > REFUSE_BYTES:
        raise BundleError(
            f"The script has {_kilobytes(size)}; the limit is {_kilobytes(REFUSE_BYTES)}{detail}.",
            "Move data into a dataset or split the module.",
        )
    return [
        f"The script has {_kilobytes(size)}; over {_kilobytes(REFUSE_BYTES)} it is refused{detail}."
    ]


# ---- reading modules -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Binding:
    """A name bound at module level: where, and to which outside or kernels object when imported."""

    line: int
    target: str | None  # "numpy.linalg", "kernels.config.Strategy"; None: made by this module


@dataclass
class _Module:
    """A parsed module, after the checks that need no other module.

    Shared by all scripts of a process that hold it: never changed once ``_parse`` gave it out.
    """

    name: str
    path: str  # below the root, POSIX
    lines: list[str]
    tree: ast.Module
    nodes: list[ast.AST]  # of the whole tree: walking it takes longer than parsing
    section: str = ""  # what the script holds of it
    kernels_imports: list[ast.ImportFrom] = field(default_factory=list)
    outside_imports: list[ast.Import | ast.ImportFrom] = field(default_factory=list)
    future: dict[str, int] = field(default_factory=dict)  # feature -> line
    dropped: list[ast.stmt] = field(default_factory=list)
    bindings: dict[str, list[_Binding]] = field(default_factory=dict)

    def refuse(self, line: int, fact: str, hint: str) -> NoReturn:
        raise BundleError(f"{self.path}:{line} {fact}.", hint)


class _Loader:
    """Reads modules depth first, so that ``ordered`` has every module after those it imports."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ordered: list[_Module] = []
        self._done: set[str] = set()
        self._checked_packages: set[str] = set()

    def load(self, name: str, wanted_by: str, above: tuple[str, ...]) -> None:
        """Load a module and all it imports; ``above`` is the chain of modules being loaded."""
        if name in above:
            cycle = (*above[above.index(name) :], name)
            raise BundleError(
                f"{wanted_by} closes an import cycle: {' -> '.join(cycle)}.",
                "Move what both need into a module of its own.",
            )
        if name in self._done:
            return
        module = self._read(name, wanted_by)
        for node in sorted(
            module.kernels_imports, key=lambda node: (node.module or "", node.lineno)
        ):
            self.load(str(node.module), f"{module.path}:{node.lineno}", (*above, name))
        self._done.add(name)
        self.ordered.append(module)

    def _read(self, name: str, wanted_by: str) -> _Module:
        if not re.fullmatch(rf"{PACKAGE}(\.[A-Za-z_]\w*)*", name):
            raise BundleError(
                f"{wanted_by}: {name!r} is no module of {PACKAGE}.",
                f"Name one, like {PACKAGE}.pipelines.features.",
            )
        relative = name.replace(".", "/") + ".py"
        if not (self.root / relative).is_file():
            if (self.root / name.replace(".", "/")).is_dir():
                raise BundleError(
                    f"{wanted_by} names the package {name}, not one of its modules.",
                    f"Write `from {name}.module import name`.",
                )
            raise BundleError(
                f"{wanted_by} needs {relative}, which does not exist.",
                "Create it or correct the import.",
            )
        self._check_packages(name)
        return _parse(name, relative, _read_text(relative, self.root / relative))

    def _check_packages(self, name: str) -> None:
        """A package's __init__.py is not bundled, so it may hold nothing but a docstring."""
        parts = name.split(".")[:-1]
        for depth in range(1, len(parts) + 1):
            relative = "/".join(parts[:depth]) + "/__init__.py"
            path = self.root / relative
            if relative in self._checked_packages or not path.is_file():
                continue
            self._checked_packages.add(relative)
            for node in _parse_text(relative, _read_text(relative, path)).body:
                if not _is_docstring(node):
                    raise BundleError(
                        f"{relative}:{node.lineno} holds code, which a script would lose.",
                        "Leave only a docstring; move the code into a module.",
                    )


def _read_text(relative: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except ValueError as error:  # bytes that are not UTF-8
        raise BundleError(f"{relative}:1 cannot be read: {error}.", "Save it as UTF-8.") from error


def _parse_text(relative: str, text: str) -> ast.Module:
    try:
        return ast.parse(text, filename=relative)
    except SyntaxError as error:
        raise BundleError(
            f"{relative}:{error.lineno or 1} is not valid Python: {error.msg}.", "Correct the line."
        ) from error
    except ValueError as error:  # a NUL
        raise BundleError(f"{relative}:1 cannot be read: {error}.", "Save it as UTF-8.") from error


@lru_cache(maxsize=512)  # a process that renders many scripts meets the same modules in each
def _parse(name: str, relative: str, text: str) -> _Module:
    tree = _parse_text(relative, text)
    module = _Module(name, relative, text.split("\n"), tree, list(ast.walk(tree)))
    if tree.body and _is_docstring(tree.body[0]):
        module.dropped.append(tree.body[0])
    _sort_imports(module)
    _check_lines_apart(module)
    _check_imports_first(module)
    _check_main_block(module)
    _collect_bindings(module)
    _check_own_names(module, text)
    module.section = _section(module)
    module.tree, module.nodes, module.lines = ast.Module([], []), [], []  # the bulk of it
    return module


def _sort_imports(module: _Module) -> None:
    """Refuse imports that cannot be flattened; list those that can."""
    top_level = {id(node) for node in module.tree.body}
    for node in module.nodes:
        at_top = id(node) in top_level
        if isinstance(node, ast.Call):
            _check_import_call(module, node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _is_kernels(alias.name):
                    module.refuse(
                        node.lineno,
                        f"imports a module of {PACKAGE}: `import {alias.name}`",
                        f"Import names: `from {alias.name} import name`.",
                    )
            if at_top:
                module.outside_imports.append(node)
                module.dropped.append(node)
        elif isinstance(node, ast.ImportFrom):
            _check_import_from(module, node, at_top)
            if not at_top:
                continue
            module.dropped.append(node)
            if node.module == "__future__":
                module.future.update((alias.name, node.lineno) for alias in node.names)
            elif _is_kernels(str(node.module)):
                module.kernels_imports.append(node)
            else:
                module.outside_imports.append(node)


def _check_import_from(module: _Module, node: ast.ImportFrom, at_top: bool) -> None:
    origin = "." * node.level + (node.module or "")
    first = node.names[0].name
    if node.level:
        module.refuse(
            node.lineno,
            f"has a relative import: `from {origin} import {first}`",
            f"Write the whole name, from {PACKAGE} on.",
        )
    if first == "*":
        module.refuse(
            node.lineno, f"has a star import: `from {origin} import *`", "Name what is imported."
        )
    if not _is_kernels(origin):
        return
    if not at_top:
        module.refuse(
            node.lineno,
            f"imports from {origin} inside a function, class or block; the script has no {PACKAGE}",
            "Move the import to module level.",
        )
    for alias in node.names:
        if alias.asname is not None:
            module.refuse(
                node.lineno,
                f"imports {alias.name} from {origin} as {alias.asname}",
                "Import it without an alias, or rename it where it is defined.",
            )


def _check_import_call(module: _Module, node: ast.Call) -> None:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else None
    called = node.func.id if isinstance(node.func, ast.Name) else called
    if called not in ("import_module", "__import__") or not node.args:
        return
    wanted = node.args[0]
    if (
        isinstance(wanted, ast.Constant)
        and isinstance(wanted.value, str)
        and _is_kernels(wanted.value)
    ):
        module.refuse(
            node.lineno,
            f"imports {wanted.value} by a call; the script has no {PACKAGE}",
            "Import names from it at module level.",
        )


def _check_lines_apart(module: _Module) -> None:
    """Whole lines are removed, so a removed statement may share none with another."""
    removed = {id(node) for node in module.dropped}
    for before, after in zip(module.tree.body, module.tree.body[1:], strict=False):
        shared = (before.end_lineno or before.lineno) >= after.lineno
        if shared and (id(before) in removed or id(after) in removed):
            module.refuse(
                after.lineno,
                "has an import or docstring and another statement on one line",
                "Give each its own line.",
            )


def _check_imports_first(module: _Module) -> None:
    """Code before an import may prepare it (os.environ, a backend); moved, it would come late."""
    code: ast.stmt | None = None
    for node in module.tree.body:
        if code is not None and isinstance(node, ast.Import | ast.ImportFrom):
            module.refuse(
                node.lineno,
                f"imports after the code of line {code.lineno}; in the script imports come first",
                "Move the import up, or into the function that needs it.",
            )
        harmless = isinstance(node, ast.Import | ast.ImportFrom | ast.If | ast.Try)
        if not harmless and not _is_docstring(node):
            code = code or node


def _check_main_block(module: _Module) -> None:
    for node in module.tree.body:
        if isinstance(node, ast.If) and any(
            isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test)
        ):
            module.refuse(
                node.lineno,
                "has a block that depends on __name__, which would run (or not) inside the script",
                "Remove it; the script has its own main.",
            )


# ---- names ---------------------------------------------------------------------------------------


def _collect_bindings(module: _Module) -> None:
    """Every name bound at module level, also inside if, try, with, for, match and by ``global``."""
    for name, binding in _module_bindings(module.tree.body, module.nodes):
        module.bindings.setdefault(name, []).append(binding)
    for name, bindings in sorted(module.bindings.items(), key=lambda item: item[1][0].line):
        line = bindings[0].line
        if name == "__all__":
            module.refuse(line, "binds __all__", "Remove it; names are imported one by one.")
        if name in BUILTIN_NAMES:
            module.refuse(
                line,
                f"binds {name!r} at module level, which hides the builtin in every other module",
                "Rename it.",
            )
        _check_hoisted_once(module, name, bindings)


def _check_hoisted_once(module: _Module, name: str, bindings: list[_Binding]) -> None:
    """An import that moves to the top must not change places with another binding of its name."""
    moved = {node.lineno for node in (*module.outside_imports, *module.kernels_imports)}
    targets = {binding.target for binding in bindings}
    if len(targets) > 1 and any(binding.line in moved for binding in bindings):
        lines = sorted({binding.line for binding in bindings})
        module.refuse(
            lines[1] if len(lines) > 1 else lines[0],
            f"binds {name!r} again after line {lines[0]}, once by an import that will move",
            "Use two names.",
        )


def _module_bindings(
    body: Iterable[ast.stmt], nodes: Iterable[ast.AST]
) -> Iterator[tuple[str, _Binding]]:
    for node in nodes:
        if isinstance(node, ast.Global):
            for name in node.names:
                yield name, _Binding(node.lineno, None)
    for statement in body:
        yield from _scope_bindings(statement, in_comprehension=False)


def _scope_bindings(node: ast.AST, in_comprehension: bool) -> Iterator[tuple[str, _Binding]]:
    """What a node and its parts bind in the scope that the node stands in."""
    in_comprehension = in_comprehension or isinstance(
        node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    )
    loop_variable = in_comprehension and isinstance(node, ast.Name)
    if not loop_variable:
        yield from _bound_by(node)
    for part in _parts_in_scope(node):
        yield from _scope_bindings(part, in_comprehension)


def _bound_by(node: ast.AST) -> Iterator[tuple[str, _Binding]]:
    """What the node itself binds, without its parts."""
    match node:
        case ast.Import():
            for alias in node.names:
                top = alias.name.partition(".")[0]
                target = alias.name if alias.asname else top
                yield alias.asname or top, _Binding(node.lineno, target)
        case ast.ImportFrom() if node.module != "__future__":
            for alias in node.names:
                target = f"{node.module}.{alias.name}"
                yield alias.asname or alias.name, _Binding(node.lineno, target)
        case ast.NamedExpr():  # the one thing that leaves a comprehension
            yield node.target.id, _Binding(node.lineno, None)
        case ast.Name() if not isinstance(node.ctx, ast.Load):
            yield node.id, _Binding(node.lineno, None)
        case (
            ast.FunctionDef(name=str(name))
            | ast.AsyncFunctionDef(name=str(name))
            | ast.ClassDef(name=str(name))
            | ast.ExceptHandler(name=str(name))
            | ast.MatchAs(name=str(name))
            | ast.MatchStar(name=str(name))
            | ast.MatchMapping(rest=str(name))
        ):
            yield name, _Binding(node.lineno, None)


def _parts_in_scope(node: ast.AST) -> Iterable[ast.AST]:
    """The parts evaluated where the node stands; the bodies of functions and classes are not."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return [*node.decorator_list, node.args]
        case ast.ClassDef():
            return [*node.decorator_list, *node.bases, *node.keywords]
        case ast.Lambda():
            return [node.args]
        case ast.NamedExpr():
            return [node.value]
    if type(node).__name__ == "TypeAlias":  # since Python 3.12; its value is evaluated later
        return [vars(node)["name"]]
    return ast.iter_child_nodes(node)


def _check_own_names(module: _Module, text: str) -> None:
    """A module binds every global it reads; flattened, a neighbour would hide that it forgot."""
    try:
        table = symtable.symtable(text, module.path, "exec")
    except SyntaxError as error:  # what the parser lets through, such as `global x` after use
        module.refuse(error.lineno or 1, f"is not valid Python: {error.msg}", "Correct the line.")
    known = IMPLICIT_NAMES | BUILTIN_NAMES | DUNDER_BUILTINS
    unbound = _global_reads(table) - module.bindings.keys() - known
    if not unbound:
        return
    lines = [
        (node.lineno, node.id)
        for node in module.nodes
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in unbound
    ]
    if lines:
        line, name = min(lines)
        module.refuse(
            line, f"uses {name!r}, which the module neither defines nor imports", "Import it here."
        )


def _global_reads(table: symtable.SymbolTable) -> set[str]:
    at_top = table.get_type() == "module"
    names = {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_referenced() and (at_top or symbol.is_global())
    }
    return names.union(*(_global_reads(child) for child in table.get_children()))


def _check_imported_names(modules: Sequence[_Module]) -> None:
    """Every name imported from a module of kernels is bound there."""
    by_name = {module.name: module for module in modules}
    for module in modules:
        for node in module.kernels_imports:
            origin = by_name[str(node.module)]
            for alias in node.names:
                if alias.name not in origin.bindings:
                    close = difflib.get_close_matches(alias.name, sorted(origin.bindings), 1)
                    module.refuse(
                        node.lineno,
                        f"imports {alias.name!r}, which {origin.path} does not define",
                        f"Did you mean {close[0]!r}?"
                        if close
                        else "Define it or correct the name.",
                    )


def _check_unique_names(modules: Sequence[_Module], reserved: Collection[str]) -> None:
    """One meaning for each module-level name; the same outside import twice is one meaning."""
    owners: dict[str, tuple[_Module, _Binding]] = {}
    for module in modules:
        for name, bindings in module.bindings.items():
            # Imported in one branch and made in another: what counts is that the module makes it.
            binding = next((item for item in bindings if item.target is None), bindings[0])
            if name in reserved:
                module.refuse(
                    binding.line, f"binds {name!r}, which the script's own main binds", "Rename it."
                )
            if binding.target is not None and _is_kernels(binding.target):
                continue  # counted where it is defined
            other, earlier = owners.setdefault(name, (module, binding))
            same_import = binding.target is not None and binding.target == earlier.target
            if other is not module and not same_import:
                module.refuse(
                    binding.line,
                    f"binds {_meaning(name, binding)}; "
                    f"{other.path}:{earlier.line} binds {_meaning(name, earlier)}",
                    "In one script one would replace the other: rename one of them.",
                )


def _check_future(modules: Sequence[_Module]) -> None:
    for module in modules:
        for feature, line in module.future.items():
            for other in modules:
                if feature not in other.future:
                    module.refuse(
                        line,
                        f"imports {feature} from __future__; {other.path} does not",
                        "It holds for the whole script: import it in every module or in none.",
                    )


def _meaning(name: str, binding: _Binding) -> str:
    return f"{name!r} to {binding.target}" if binding.target else f"{name!r}"


# ---- writing -------------------------------------------------------------------------------------


def _import_block(modules: Sequence[_Module]) -> str:
    """__future__, standard library and the rest, a blank line between; `import` before `from`."""
    plain: set[tuple[str, str]] = set()
    named: dict[str, set[tuple[str, str]]] = {}
    for module in modules:
        for node in module.outside_imports:
            pairs = {(alias.name, alias.asname or "") for alias in node.names}
            if isinstance(node, ast.Import):
                plain |= pairs
            else:
                named.setdefault(str(node.module), set()).update(pairs)
    future = sorted({feature for module in modules for feature in module.future})
    blocks = [_from_import("__future__", [(feature, "") for feature in future])] if future else []
    for standard in (True, False):
        lines = [
            f"import {_aliased(pair)}"
            for pair in sorted(plain)
            if _is_standard(pair[0]) == standard
        ]
        lines += [
            _from_import(origin, sorted(pairs))
            for origin, pairs in sorted(named.items())
            if _is_standard(origin) == standard
        ]
        if lines:
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _from_import(origin: str, pairs: Sequence[tuple[str, str]]) -> str:
    names = [_aliased(pair) for pair in pairs]
    line = f"from {origin} import {', '.join(names)}"
    if len(line) <= WIDTH:
        return line
    return f"from {origin} import (\n" + "".join(f"    {name},\n" for name in names) + ")"


def _aliased(pair: tuple[str, str]) -> str:
    return f"{pair[0]} as {pair[1]}" if pair[1] else pair[0]


def _section(module: _Module) -> str:
    """A module under its banner: docstring as comments, imports gone, all else as it was."""
    removed: set[int] = set()
    comments: dict[int, list[str]] = {}
    for node in module.dropped:
        removed.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        if _is_docstring(node):
            comments[node.lineno] = _docstring_comments(module.tree)
    inside_string = _string_lines(module)
    kept: list[str] = []
    blanks = 0
    for number, line in enumerate(module.lines, start=1):
        if number in inside_string:  # blank lines there are data
            kept.append(line)
            blanks = 0
            continue
        for text in comments.get(number, [] if number in removed else [line.rstrip()]):
            blanks = 0 if text else blanks + 1
            if text or (kept and blanks <= 2):
                kept.append(text)
    while kept and not kept[-1]:
        kept.pop()
    banner = f"# ---- {module.path} ".ljust(WIDTH, "-")
    return "\n".join([banner, *kept]) + "\n"


def _docstring_comments(tree: ast.Module) -> list[str]:
    text = ast.get_docstring(tree) or ""
    return [f"# {line}".rstrip() for line in text.splitlines()]


def _string_lines(module: _Module) -> set[int]:
    """Lines that begin inside a string or end inside one; the module's docstring does not count."""
    lines: set[int] = set()
    body = module.tree.body
    docstring = body[0] if body and _is_docstring(body[0]) else None
    skipped = docstring.value if isinstance(docstring, ast.Expr) else None
    for node in module.nodes:
        if (
            isinstance(node, ast.Constant | ast.JoinedStr)
            and node is not skipped
            and (node.end_lineno or node.lineno) > node.lineno
        ):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_kernels(name: str) -> bool:
    return name == PACKAGE or name.startswith(PACKAGE + ".")


def _is_standard(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def _kilobytes(count: int) -> str:
    return f"{count / 1000:.0f} kB"

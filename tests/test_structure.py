"""The shape of the code: imports go one way, files stay short, heavy packages load where they are used."""

import ast
import fnmatch
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from nerf_pl import methods

PROJECT = Path(__file__).resolve().parent.parent

# a module imports only from lower levels; the parts of one folder (scenes, ops) may import each other
LEVELS = (
    ("types", "text", "version"),
    ("errors", "console"),
    ("children", "signals", "writing"),
    ("cameras", "extras", "media", "ops", "options"),
    ("randomness", "sampling", "metrics", "scenes"),
    ("rendering",),
    ("alignment", "methods", "sights"),
    ("checkpoints",),
    ("training", "evaluation", "films", "export", "report"),
    ("bench", "doctor", "sweep", "viewer"),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
FIRST_LEVEL_WITH_OPTIONS = 6  # math takes tensors and numbers; a method is the first to take options
COMPILERS = ("triton", "numba")  # files named after one hold what it compiles
OPS_MAY_IMPORT = {*COMPILERS, "torch", "numpy", "jaxtyping", "nerf_pl.types", "nerf_pl.ops", *sys.stdlib_module_names}
HEAVY = {
    *COMPILERS, "viser", "pycolmap", "trimesh", "skimage", "scipy", "fast_simplification", "xatlas", "av", "matplotlib",
}  # fmt: skip
MAX_LINES = 400  # of a file
MAX_FUNCTION = 60  # lines of a function
MAX_PARAMETERS = 8
METHODS = ("nerf", "ngp")
SAY_NERF = (  # the command's name is that of a method, too
    "nerf_pl/cli/__init__.py", "nerf_pl/cli/parse.py", "nerf_pl/cli/completion.py", "nerf_pl/doctor/findings.py",
)  # fmt: skip  # the command's name is that of a method, too


def project_files() -> Iterator[Path]:
    """Every file that git does not ignore, found without git so that it works in an unpacked archive."""
    lines = (PROJECT / ".gitignore").read_text().split()
    ignored = [".git", *(line.strip("/") for line in lines if not line.startswith("#"))]  # a file in a worktree
    for folder, folders, files in os.walk(PROJECT):
        skip = [name for name in folders if any(fnmatch.fnmatch(name, p) for p in ignored)]
        folders[:] = sorted(set(folders) - set(skip))
        yield from (Path(folder) / name for name in sorted(files) if not any(fnmatch.fnmatch(name, p) for p in ignored))


def relative(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def full_name(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


SOURCES = [relative(path) for path in project_files() if path.suffix == ".py"]
MODULES = [file for file in SOURCES if file.startswith("nerf_pl/")]
NAMES = {full_name(file): file for file in MODULES}


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((PROJECT / file).read_text(encoding="utf-8"))


def part_of(file: str) -> str:
    """`nerf_pl/scenes/demo.py` belongs to `scenes`."""
    return Path(file).parts[1].removesuffix(".py")


def is_kernel(file: str) -> bool:
    return part_of(file) == "ops" and Path(file).name.startswith(COMPILERS)


def names_imported(node: ast.AST, file: str) -> list[str]:
    """Full names that an import statement may load: `from nerf_pl import ops` loads nerf_pl and nerf_pl.ops."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    module = node.module or ""
    if node.level:
        package = Path(file).parts[: len(Path(file).parts) - node.level]
        module = ".".join([*package, *([module] if module else [])])
    inner = [f"{module}.{alias.name}" for alias in node.names]
    return [module, *(name for name in inner if name in NAMES)]


def imports(file: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, at the top or inside a function."""
    for node in ast.walk(tree(file)):
        yield from ((node.lineno, name) for name in names_imported(node, file))


def imports_at_once(file: str) -> set[str]:
    """What importing a module imports."""
    return {name for node in top_level(tree(file).body) for name in names_imported(node, file)}


def top_level(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported; those under `if TYPE_CHECKING:` do not."""
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from top_level(node.orelse)
            continue
        yield node
        for block in ("body", "orelse", "finalbody", "handlers"):
            for child in getattr(node, block, []):
                yield from top_level(child.body if isinstance(child, ast.ExceptHandler) else [child])


def test_every_module_has_a_level():
    unknown = [file for file in MODULES if part_of(file) not in LEVEL and file != "nerf_pl/__init__.py"]
    assert not unknown, f"give these a place in LEVELS: {unknown}"


def test_the_page_for_contributors_has_these_levels_and_all_parts():
    page = (PROJECT / "docs" / "code.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (`.*) \|$", page, re.MULTILINE)
    assert [(int(n), tuple(re.findall(r"`(\w+)`", names))) for n, names in rows] == list(enumerate(LEVELS))
    tree_shown = page[page.index("train.py  eval.py") : page.index("tests/  notebooks/")]
    shown = {word for word in re.findall(r"^  (\w+)(?:\.py|/)(?: |$)", tree_shown, re.MULTILINE)}
    assert shown == set(LEVEL) - {"__main__"}


@pytest.mark.parametrize("file", MODULES)
def test_imports_go_one_way(file):
    part = part_of(file)
    own = LEVEL.get(part, 0)  # the package itself imports the version alone
    wrong = []
    for line, name in imports(file):
        root, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if root != "nerf_pl" or target in (part, "", "version"):
            continue
        if LEVEL.get(target, len(LEVELS)) >= own:
            wrong.append(f"{file}:{line} imports {name}, but {part} (level {own}) may import from lower levels only")
        if target == "options" and own < FIRST_LEVEL_WITH_OPTIONS:
            wrong.append(f"{file}:{line} imports {name}, but below level {FIRST_LEVEL_WITH_OPTIONS} code takes values")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", [file for file in MODULES if part_of(file) == "ops"])
def test_ops_stand_alone(file):
    wrong = []
    for line, name in imports(file):
        parts = name.split(".")
        if not OPS_MAY_IMPORT & {parts[0], ".".join(parts[:2])} and name != "nerf_pl":
            wrong.append(f"{file}:{line} imports {name}, but ops knows torch, its compilers and types only")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", MODULES)
def test_heavy_packages_load_where_they_are_used(file):
    allowed = {*COMPILERS} if is_kernel(file) else set()  # see the next test
    found = {name.split(".")[0] for name in imports_at_once(file)} & (HEAVY - allowed)
    assert not found, f"{file}: import {', '.join(found)} inside the function that needs it"


@pytest.mark.parametrize("compiler", COMPILERS)
def test_compilers_load_with_the_first_kernel(compiler):
    """The kernels' files import their compiler at their top. Nothing else may, or may import one of them at its top."""
    at_once = {name: imports_at_once(file) for name, file in NAMES.items()}
    loads = {name for name, found in at_once.items() if any(n.split(".")[0] == compiler for n in found)}
    while more := {name for name, found in at_once.items() if found & loads} - loads:
        loads |= more
    wrong = {name for name in loads if not is_kernel(NAMES[name])}
    assert not wrong, f"importing {', '.join(sorted(wrong))} loads {compiler}: import the kernel inside the function"


@pytest.mark.parametrize("file", SOURCES)
def test_files_are_short(file):
    lines = len((PROJECT / file).read_text(encoding="utf-8").splitlines())
    assert lines < MAX_LINES, f"{file} has {lines} lines: split it by what it is about"


def functions(file: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of a file, and whether it is a method: "f" or "C.f"."""
    for node in ast.walk(tree(file)):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
                yield f"{owner}{child.name}", child


def is_given_its_form(name: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Kernels, whose arguments are pointers, and what torch calls: the forward pass of an autograd.Function."""
    marks = [ast.unparse(decorator) for decorator in function.decorator_list]
    first = function.args.args[0].arg if function.args.args else ""
    return any("triton.jit" in mark or mark == "compiled" for mark in marks) or first == "ctx"


@pytest.mark.parametrize("file", MODULES)
def test_functions_are_short_and_take_few_parameters(file):
    wrong = []
    for name, function in functions(file):
        if is_given_its_form(name, function):
            continue
        a = function.args
        positional = [each.arg for each in (*a.posonlyargs, *a.args) if each.arg not in ("self", "cls")]
        lines = (function.end_lineno or 0) - function.lineno + 1
        n = len(positional) + len(a.kwonlyargs)
        if lines > MAX_FUNCTION:
            wrong.append(f"{file}:{function.lineno} {name} has {lines} lines, more than {MAX_FUNCTION}")
        if n > MAX_PARAMETERS:
            wrong.append(f"{file}:{function.lineno} {name} has {n} parameters, more than {MAX_PARAMETERS}")
        if a.kwarg:
            wrong.append(f"{file}:{function.lineno} {name} takes **{a.kwarg.arg}: name what it takes")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", MODULES)
def test_nobody_takes_what_is_private(file):
    """A name that begins with an underscore is known in its own module alone."""
    wrong = []
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nerf_pl"):
            private = [alias.name for alias in node.names if alias.name.startswith("_")]
            wrong += [f"{file}:{node.lineno} imports {name} from {node.module}" for name in private]
    assert not wrong, "\n".join(wrong)


def test_methods_are_named_in_their_folders_alone():
    """Drivers know only `Model`: neither a method's name, nor its classes, nor its modules."""
    wrong = []
    own = {name for method in METHODS for file in MODULES if file.startswith(f"nerf_pl/methods/{method}/")
           for name in classes(file)}  # fmt: skip
    for file in MODULES:
        if file.startswith("nerf_pl/methods/"):  # their folders, and the table that lists them
            continue
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Constant) and node.value in METHODS and file not in SAY_NERF:
                wrong.append(f"{file}:{node.lineno} says {node.value!r}")
            if isinstance(node, ast.Name) and node.id in own:
                wrong.append(f"{file}:{node.lineno} knows {node.id}")
            for name in names_imported(node, file):
                if re.match(rf"nerf_pl\.methods\.({'|'.join(METHODS)})(\.|$)", name):
                    wrong.append(f"{file}:{node.lineno} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_methods_do_not_know_each_other():
    wrong = []
    for file in MODULES:
        own = next((method for method in METHODS if file.startswith(f"nerf_pl/methods/{method}/")), None)
        others = [method for method in METHODS if own and method != own]
        for line, name in imports(file):
            wrong += [
                f"{file}:{line} imports {name}" for other in others if name.startswith(f"nerf_pl.methods.{other}")
            ]
    assert not wrong, "\n".join(wrong)


def test_the_methods_are_those_of_the_table():
    assert set(METHODS) == set(methods.METHODS)


def classes(file: str) -> set[str]:
    return {node.name for node in ast.walk(tree(file)) if isinstance(node, ast.ClassDef)}


def test_no_path_of_one_machine():
    machine_path = re.compile(r"(?<![\w.\-}/])/(?:" + "|".join(("work", "opt", "root", "home")) + r")/")
    wrong = []
    for path in project_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        wrong += [f"{relative(path)}:{i}" for i, row in enumerate(text.splitlines(), 1) if machine_path.search(row)]
    assert not wrong, f"absolute paths that exist on one machine only: {wrong}"


@pytest.mark.parametrize("file", MODULES)
def test_pictures_are_opened_with_a_list_of_formats(file):
    """Pillow starts Ghostscript for PostScript, whatever the name of the file."""
    calls = [node for node in ast.walk(tree(file)) if isinstance(node, ast.Call)]
    opened = [call for call in calls if ast.unparse(call.func) in ("Image.open", "PIL.Image.open")]
    wrong = [call.lineno for call in opened if "formats" not in [word.arg for word in call.keywords]]
    assert not wrong, f"{file}: lines {wrong}"

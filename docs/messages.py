"""All messages with which a command can end, and all warnings, read from the code: `python docs/messages.py` prints
them."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent / "nerf_pl"
GAP = "…"  # what a message names
ERROR, WARNING = "error", "warning"
ERRORS = ("UserError", "DamagedError", "FinishedError", "NothingToDo", "Interrupted")
PARTS = {
    "scenes": "Scenes and photos", "options": "Options", "cli": "Command line", "training": "Training",
    "methods": "Models", "checkpoints": "Runs and checkpoints", "evaluation": "Evaluation", "films": "Films",
    "export": "Meshes, points, pages", "viewer": "Viewer", "report": "Reports", "bench": "Measurements",
}  # fmt: skip


class Message(NamedTuple):
    """kind: ERROR or WARNING. part: of the program that tells it."""

    kind: str
    part: str
    text: str


def messages() -> Iterator[Message]:
    """All messages. What is put in when they are told is an ellipsis."""
    for file in sorted(PACKAGE.rglob("*.py")):
        part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        constants = {name: node for name, node in _assigned(tree.body).items() if name.isupper()}
        owners = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        seen: set[int] = set()
        for owner in [*reversed(owners), tree]:  # inner functions first
            names = {**constants, **_assigned(ast.walk(owner))}
            for node in ast.walk(owner):
                if isinstance(node, ast.Call) and node.args and id(node) not in seen:
                    seen.add(id(node))
                    for kind, text in _told(node, names):
                        yield Message(kind, PARTS.get(part, "Files and machine"), " ".join(text.split()))


def table_of_messages(kind: str = ERROR) -> str:
    """Markdown: a heading for each part, and its messages of this kind, each once."""
    found: dict[str, set[str]] = {}
    for message in messages():
        words = re.findall(r"[a-z]{2,}", message.text)
        if message.kind == kind and len(words) > 2 and not message.text.startswith(f"{GAP} {GAP} ("):
            found.setdefault(message.part, set()).add(message.text)
    lines = []
    for part in sorted(found):
        lines += [f"### {part}", ""]
        lines += [f"- `{text.replace('`', chr(39))}`" for text in sorted(found[part], key=str.lower)]
        lines += [""]
    return "\n".join(lines)


def _told(node: ast.Call, names: dict[str, ast.expr]) -> Iterator[tuple[str, str]]:
    """What a call tells, if it is one that tells something."""
    called, first = ast.unparse(node.func), _text(node.args[0], names)
    if called in ERRORS:
        yield ERROR, first
    elif called == "warn":
        yield WARNING, first
    elif called == "Range" and len(node.args) > 1:  # of an option's values
        yield ERROR, f"--{GAP} {GAP} cannot work: {_text(node.args[1], names)}"
    elif called == "reading" and len(node.args) > 1:  # files
        told = next((_text(each.value, names) for each in node.keywords if each.arg == "told"), "is damaged")
        yield ERROR, f"{GAP} {told} ({GAP}): {_text(node.args[1], names)}"


def _assigned(nodes: Iterable[ast.AST]) -> dict[str, ast.expr]:
    """Texts that a function or a module gives a name."""
    found: dict[str, ast.expr] = {}
    for node in nodes:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.JoinedStr | ast.Constant | ast.IfExp):
            continue
        for target in node.targets:
            if isinstance(target, ast.Name):
                found.setdefault(target.id, node.value)
    return found


def _text(node: ast.expr, names: dict[str, ast.expr]) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, names) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, names)
    if isinstance(node, ast.IfExp):
        return (
            f"{_text(node.body, names)} / {_text(node.orelse, names)}" if isinstance(node.body, ast.JoinedStr) else GAP
        )
    if isinstance(node, ast.Name) and node.id in names:
        return _text(names[node.id], {name: value for name, value in names.items() if name != node.id})
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, names) + _text(node.right, names)
    return GAP


if __name__ == "__main__":
    print(table_of_messages(ERROR), table_of_messages(WARNING), sep="\n")

"""All messages with which a command can end, read from the code: `python docs/messages.py` prints them as a table."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

PACKAGE = Path(__file__).resolve().parent.parent / "nerf_pl"
GAP = "…"  # what a message names
PARTS = {
    "scenes": "Scenes and photos", "options": "Options", "cli": "Command line", "training": "Training",
    "methods": "Models", "checkpoints": "Runs and checkpoints", "evaluation": "Evaluation", "films": "Films",
    "export": "Meshes, points, pages", "viewer": "Viewer", "report": "Reports", "bench": "Measurements",
}  # fmt: skip


def messages() -> Iterator[tuple[str, str]]:
    """The part of the code and the text of each message. What is put in when it is told is an ellipsis."""
    for file in sorted(PACKAGE.rglob("*.py")):
        part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        owners = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)] or [tree]
        seen: set[int] = set()
        for owner in reversed(owners):  # inner functions first
            names = _assigned(owner)
            for node in ast.walk(owner):
                if _is_error(node) and id(node) not in seen:
                    seen.add(id(node))
                    yield PARTS.get(part, "Files and machine"), " ".join(_text(node.args[0], names).split())


def table_of_messages() -> str:
    """Markdown: a heading for each part, and its messages, each once."""
    found: dict[str, set[str]] = {}
    for part, text in messages():
        if any(c.isalpha() for c in text.replace(GAP, "")):
            found.setdefault(part, set()).add(text)
    lines = []
    for part in sorted(found):
        lines += [f"### {part}", ""]
        lines += [f"- `{text.replace('`', chr(39))}`" for text in sorted(found[part], key=str.lower)]
        lines += [""]
    return "\n".join(lines)


def _is_error(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "UserError" and bool(node.args)


def _assigned(owner: ast.AST) -> dict[str, ast.expr]:
    """Texts that the function gives a name."""
    found: dict[str, ast.expr] = {}
    for node in ast.walk(owner):
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
    print(table_of_messages())

"""What mkdocs adds to the pages: all messages, the toy method, the changelog, links to the code, and formulas."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).parent))

from formulas import put_back, taken_out  # noqa: E402 (beside this file)
from messages import ERROR, WARNING, table_of_messages  # noqa: E402


def on_files(files: Any, config: Any) -> Any:
    """The changelog is a page, too."""
    text = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "changelog.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    for mark, kind in (("<!-- messages -->", ERROR), ("<!-- warnings -->", WARNING)):
        markdown = markdown.replace(mark, table_of_messages(kind) if mark in markdown else "")
    markdown = markdown.replace("<!-- toy -->", f"```python\n{toy()}```" if "<!-- toy -->" in markdown else "")
    # files outside of docs are no pages: their names remain
    markdown = re.sub(r"\[([^\]]*)\]\(\.\./([^)]*)\)", r"\1 (`\2`)", markdown)
    markdown = re.sub(r"\[([^\]]*)\]\(((?!http)[\w/.]+\.(?:py|json))\)", r"\1", markdown)
    page.meta["formulas"] = []
    return taken_out(markdown, page.meta["formulas"])


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    return put_back(html, page.meta["formulas"])


def toy() -> str:
    """The method of a few lines that tests take all the way."""
    text = (PROJECT / "tests" / "test_toy_method.py").read_text(encoding="utf-8")
    return text[text.index("@dataclass") : text.index("@pytest.fixture")].rstrip() + "\n"

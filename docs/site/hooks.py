"""Build steps of the documentation site: pages that lie outside `docs/`, the command line's help, an offline check."""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PAGES = {  # page of the site -> file of the repository
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "results.md": "benchmarks/RESULTS.md",
    "studies-here.md": "benchmarks/STUDIES.md",
}
HELP_PAGE = "reference/command-line.md"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
HOST = r"[\"']?(?:https?:)?//"
ASSET = re.compile(rf"<(?:script|img|iframe|source|video)\b[^>]*\bsrc={HOST}|<link\b[^>]*\bhref={HOST}")


def on_files(files: Files, config: Any) -> Files:
    """The files of `docs/` and, as pages of the site, those of `PAGES` and the command line's help."""
    for page, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=relinked(text, page, source)))
    files.append(File.generated(config, HELP_PAGE, content=help_page()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page's text with links that leave `docs/` turned to pages of the site."""
    name = page.file.src_uri
    if name in PAGES or name == HELP_PAGE:
        return markdown
    return relinked(markdown, name, f"docs/{name}")


def relinked(text: str, page: str, source: str) -> str:
    """`text`, written for `source` in the repository, with links that are right on `page` of the site.

    A link to a file that is no page becomes its path in the repository, since the site does not hold the file.
    """
    pages = {file: name for name, file in PAGES.items()}

    def link(match: re.Match[str]) -> str:
        picture, label, target = match.groups()
        place, _, anchor = target.partition("#")
        if not place or "://" in place or place.startswith("mailto:"):
            return match.group()
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), place))
        if file in pages:
            name = pages[file]
        elif file.startswith("docs/") and (ROOT / file).is_file():
            name = file.removeprefix("docs/")
        elif (ROOT / file).exists():
            return f"`{file}`"
        else:
            return match.group()  # mkdocs then warns about the broken link
        relative = posixpath.relpath(name, posixpath.dirname(page) or ".")
        return f"{picture}[{label}]({relative}{'#' + anchor if anchor else ''})"

    return LINK.sub(link, text)


def help_page() -> str:
    """The help of every command, as the installed program prints it."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))

    def help_of(*command: str) -> str:
        words = [sys.executable, "-m", "ilk", *command, "--help"]
        return subprocess.run(words, capture_output=True, text=True, env=environment, check=True).stdout.strip()

    top = help_of()
    commands = re.findall(r"^  ([a-z]+)  ", top.partition("Commands:")[2], re.M)
    parts = ["# Command line\n\nWhat `ilk COMMAND --help` prints.\n", f"## ilk\n\n```text\n{top}\n```\n"]
    return "\n".join([*parts, *(f"## ilk {name}\n\n```text\n{help_of(name)}\n```\n" for name in commands)])


def on_post_build(config: Any, **_: Any) -> None:
    """Raises PluginError if a page would ask another host for a script, a style, a font or a picture."""
    for page in sorted(Path(config["site_dir"]).rglob("*.html")):
        found = ASSET.search(page.read_text(encoding="utf-8"))
        if found and 'rel="canonical"' not in found.group():
            raise PluginError(f"{page.name} would load something from another host: {found.group()[:120]}")

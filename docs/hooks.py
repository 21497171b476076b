"""Pages of the site that lie outside docs/, at the addresses that links in the repository give them.

A link ``../bench/RESULTS.md`` in ``docs/demo.md`` works where the files lie, and is made to work on the site too, so
that no text is kept twice.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

OUTSIDE = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "bench/*.md",
    "bench/results/*.md",
    "bench/results/*.png",
    "bench/results/*.svg",
)
_LINK = re.compile(r"(?<=\]\()(?!https?://|#|mailto:)([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside."""
    root = Path(config.config_file_path).parent
    for pattern in OUTSIDE:
        for path in sorted(root.glob(pattern)):
            files.append(File.generated(config, path.relative_to(root).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into links of the site."""
    here = page.file.src_uri
    place = here if here.startswith(("bench/", "CHANGELOG", "CONTRIBUTING")) else f"docs/{here}"

    def on_site(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), match[1]))
        if target == "docs/adr":
            target = "docs/adr/index.md"
        shown = posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(here) or ".")
        return shown + (match[2] or "")

    return _LINK.sub(on_site, markdown)

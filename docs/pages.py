"""Hooks of MkDocs: pages of the site that lie outside docs/, and links between all pages.

Links in the repository are those that work on GitHub; here they become those of the site. One to a file that is no page is left
as it is, and ``mkdocs build --strict`` names it.
"""

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
PAGES |= {"espnet_tse_gen/speech/README.md": "speech.md"}
"""Files of the repository and their pages."""
for _card in sorted(ROOT.glob("espnet_tse_gen/pretrained/*/README.md")):
    PAGES[_card.relative_to(ROOT).as_posix()] = f"models/{_card.parent.name}.md"
for _recipe in sorted(ROOT.glob("egs2/*/*/README.md")):
    PAGES[_recipe.relative_to(ROOT).as_posix()] = f"recipes/{_recipe.parts[-3]}_{_recipe.parts[-2]}.md"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Return a page with the links of the site."""
    here = page.file.src_uri
    source = {own: outside for outside, own in PAGES.items()}.get(here, f"docs/{here}")

    def link(found: re.Match[str]) -> str:
        target = normpath(join(dirname(source), found[1]))
        if target.startswith("docs/"):
            return f"]({relpath(target.removeprefix('docs/'), dirname(here) or '.')}"
        return f"]({relpath(PAGES[target], dirname(here) or '.')}" if target in PAGES else found[0]

    return re.sub(r"\]\(([^)#\s:]+)(?=[)#])", link, markdown)

"""A hook of mkdocs: what a page links to outside docs/ is on GitHub beside it, but not on the site.

There the link's text stands alone. A link to a file that is not in the repository stops the build.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)#]*)[^)]*\)")


def on_page_markdown(markdown: str, page: object, **_: object) -> str:
    def text_alone(match: re.Match[str]) -> str:
        if not (ROOT / match[2]).exists():
            raise ValueError(f"{page}: ../{match[2]} is not in the repository")
        return match[1]

    return OUTSIDE.sub(text_alone, markdown)

"""Keep of a rendered page what pages here are made of; everything else shows as text.

The page is written anew from what is known to be harmless, so that nothing depends on how a browser
reads broken HTML.
"""

import html
import re
from html.parser import HTMLParser

TAGS = re.compile(
    "a|blockquote|br|code|d[dlt]|del|div|em|h[1-6r]|img|li|ol|p|pre|s|small|span|strong|su[bp]"
    "|table|tbody|t[dhr]|thead|ul"
)
# Of each attribute what it may hold: no scripts, and images only inside the page.
ATTRIBUTES = {
    "class": r"[\w -]*",
    "id": r"[\w=-]+",
    "style": r"text-align: ?(left|right|center);?",
    "alt": r".*",
    "href": r"https?://.*|[^:]*",
    "src": r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=\s]*",
}


class _Filter(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not TAGS.fullmatch(tag):
            self.handle_data(self.get_starttag_text())
            return
        kept = [
            f' {name}="{html.escape(value or "")}"'
            for name, value in attrs
            if name in ATTRIBUTES and re.fullmatch(ATTRIBUTES[name], value or "", re.DOTALL)
        ]
        self.parts.append(f"<{tag}{''.join(kept)}>")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self.parts.append(f"</{tag}>" if TAGS.fullmatch(tag) else html.escape(f"</{tag}>"))

    def handle_data(self, data: str) -> None:
        self.parts.append(html.escape(data, quote=False))

    def handle_entityref(self, name: str) -> None:
        self.parts.append(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.parts.append(f"&#{name};")


def safe_html(body: str) -> str:
    """Return a page's body without scripts, handlers, frames, styles and outside images."""
    found = _Filter()
    found.feed(body)
    found.close()
    return "".join(found.parts)

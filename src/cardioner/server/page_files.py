"""The page, its scripts and its style: files of this package, which ask no other host for anything."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response

from cardioner.reports.palette import PALETTE

ROOT = "/"
FOLDER = "/page/"

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter(include_in_schema=False)


def is_page(path: str) -> bool:
    """Whether a path is of the page itself, which holds nothing private."""
    return path == ROOT or path.startswith(FOLDER)


@router.get(ROOT)
async def page() -> Response:
    """The page."""
    return _response(_FILES["index.html"], ".html")


@router.get(FOLDER + "{name}")
async def file(name: str) -> Response:
    """A script, a style or an image of the page."""
    if name not in _FILES:
        return Response(status_code=404)
    return _response(_FILES[name], name[name.rindex(".") :])


def _response(content: bytes, suffix: str) -> Response:
    return Response(content, media_type=_TYPES[suffix], headers=_HEADERS)


def _palette() -> bytes:
    """The colours of all our pages as variables."""
    light, dark = (" ".join(f"--{name}: {both[scheme]};" for name, both in PALETTE.items()) for scheme in (0, 1))
    return (
        f":root {{ color-scheme: light; {light} }}\n"
        f':root[data-theme="dark"] {{ color-scheme: dark; {dark} }}\n'
        f'@media (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ color-scheme: dark; {dark} }} }}\n'
    ).encode()


_FILES = {
    "palette.css": _palette(),
    **{
        one.name: one.read_bytes()
        for one in files(__package__).joinpath("page").iterdir()
        if one.name.endswith(tuple(_TYPES))
    },
}
PATHS = frozenset({ROOT, *(FOLDER + name for name in _FILES)})
"""What may be named in the log."""

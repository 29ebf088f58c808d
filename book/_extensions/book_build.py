"""Sphinx extension: what this book needs of its build and no setting offers."""

import re
from pathlib import Path

FONT_PRELOAD = re.compile(r'<link rel="preload" as="font"[^>]*>\s*')


def every_page(app, env, added, changed, removed):
    """The pages to read again: all of them, so that every notebook runs at every build.

    Sphinx skips a page whose source has not changed, even where notebooks are to be executed by force. A notebook's
    numbers come from `nas_core` and `results/`, whose changes Sphinx cannot see: it would show the last build's.
    """
    return sorted(env.found_docs)


def drop_font_preloads(app, error):
    """Take the theme's font preloads out: its icons are SVG, and a browser refuses such a preload from disk."""
    if error or app.builder.format != "html":
        return
    for page in Path(app.outdir).glob("**/*.html"):
        text = page.read_text(encoding="utf-8")
        if FONT_PRELOAD.search(text):
            page.write_text(FONT_PRELOAD.sub("", text), encoding="utf-8")


def setup(app):
    """Register with Sphinx."""
    app.connect("env-get-outdated", every_page)
    app.connect("build-finished", drop_font_preloads)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

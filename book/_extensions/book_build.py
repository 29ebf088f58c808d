"""Sphinx extension: what this book needs of its build and no setting offers."""

import base64
import re
from html import escape
from pathlib import Path

from docutils import nodes

FONT_PRELOAD = re.compile(r'<link rel="preload" as="font"[^>]*>\s*')
FIGURE_DATA = re.compile(
    r'<a class="figure-data-file" download="figure\.(?P<ending>\w+)" href="data:[^,"]*;base64,(?P<data>[^"]*)">'
)
FIGURE = re.compile(r'<figure\b[^>]*?\bid="([^"]+)"|</figure>')
FORMULA = re.compile(r'(<span class="math notranslate nohighlight">[^<]*</span>)([,.;:?!)\]’”]+)')
DESCRIPTION_LENGTH = 200
DATA_FOLDER = "_data"


def no_button_to_nowhere(app, config):
    """Without the address of a public repository there is nothing to launch, and the theme would stumble over it."""
    if not config.html_theme_options.get("repository_url"):
        config.html_theme_options = {
            key: value
            for key, value in config.html_theme_options.items()
            if key not in ("launch_buttons", "repository_url", "repository_branch", "path_to_docs")
        }


def every_page(app, env, added, changed, removed):
    """The pages to read again: all of them, so that every notebook runs at every build.

    Sphinx skips a page whose source has not changed, even where notebooks are to be executed by force. A notebook's
    numbers come from `nas_core` and `results/`, whose changes Sphinx cannot see: it would show the last build's.
    """
    return sorted(env.found_docs)


def bars_are_bars(app, what, name, own, options, lines):
    """In docstrings ``|x|`` is an absolute value or a norm, never one of reST's substitutions."""
    inside = False
    for place, line in enumerate(lines):
        parts = line.split("``")
        for position, part in enumerate(parts):
            if not inside:
                parts[position] = part.replace("|", "\\|")
            inside = not inside if position < len(parts) - 1 else inside
        lines[place] = "``".join(parts)
        inside = inside and bool(line.strip())


def factories_are_dots(app, what, name, own, options, signature, returns):
    """The default of a dataclass's field that is made anew is no expression, and Sphinx would give up on the whole signature."""
    return (signature.replace("<factory>", "..."), returns) if signature else None


def move_figure_data(app, pagename, templatename, context, doctree):
    """Take the data out of a figure's links into files of the figure's name, so that the page stays light."""
    body = context.get("body") or ""
    if 'class="figure-data-file"' not in body:
        return
    taken = {}

    def moved(match):
        figures = [own.group(1) for own in FIGURE.finditer(body, 0, match.start())]
        stem = figures[-1] if figures and figures[-1] else "figure"
        count = taken[stem, match["ending"]] = taken.get((stem, match["ending"]), 0) + 1
        name = f"{stem}{f'-{count}' if count > 1 else ''}.{match['ending']}"
        path = Path(app.outdir) / DATA_FOLDER / pagename / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(match["data"]))
        address = f"{context['pathto'](DATA_FOLDER, 1)}/{pagename}/{name}"
        return f'<a class="figure-data-file" download="{name}" href="{escape(address)}">'

    context["body"] = FIGURE_DATA.sub(moved, body)


def keep_punctuation(app, pagename, templatename, context, doctree):
    """A formula is a picture, after which a line may end: what follows it without a space stays with it."""
    if "math notranslate" in (context.get("body") or ""):
        context["body"] = FORMULA.sub(r'<span class="nobreak">\1\2</span>', context["body"])


def describe_page(app, pagename, templatename, context, doctree):
    """A page's first paragraph as its description, for search engines and previews."""
    if doctree is None or 'name="description"' in context.get("metatags", ""):
        return
    paragraphs = (own for own in doctree.findall(nodes.paragraph) if isinstance(own.parent, nodes.section))
    words = " ".join(next((own.astext() for own in paragraphs), context.get("title", "")).split())
    if len(words) > DESCRIPTION_LENGTH:
        words = words[:DESCRIPTION_LENGTH].rsplit(" ", 1)[0] + " …"
    if words:
        context["metatags"] = context.get("metatags", "") + f'\n<meta name="description" content="{escape(words)}">'


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
    app.connect("config-inited", no_button_to_nowhere)
    app.connect("env-get-outdated", every_page)
    if "autodoc-process-docstring" in app.events.events:
        app.connect("autodoc-process-docstring", bars_are_bars)
        app.connect("autodoc-process-signature", factories_are_dots)
    app.connect("html-page-context", move_figure_data)
    app.connect("html-page-context", keep_punctuation)
    app.connect("html-page-context", describe_page)
    app.connect("build-finished", drop_font_preloads)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

"""Sphinx extension: run the notebooks of the book beside each other, before any page is read.

Sphinx reads a book with notebooks page by page, and the kernel of each waits for the one before. Here jupyter-cache's parallel
executor runs them all, one process a core, and MyST-NB then finds the outputs in the cache. The cache is emptied first: a
notebook's numbers come from `nas_core` and `results/`, which its key does not contain. A notebook that fails is not cached, so
MyST-NB runs it again and reports it as it always does."""

import logging
import multiprocessing
import os
import tempfile
from pathlib import Path

from book_kernels import offered
from jupyter_cache import get_cache
from jupyter_cache.executors.basic import JupyterExecutorLocalMproc, ProcessData
from myst_nb.core.read import create_nb_reader
from sphinx.util import logging as sphinx_logging

from nas_core.pages import kept


def notebooks(app, env):
    """(path, how jupyter-cache reads it) of every page with code, what takes longest first: the largest notebook; then the pages
    in Markdown, which sum up what all chapters found and compute little of their own."""
    found = []
    for name in env.found_docs:
        path = Path(env.doc2path(name))
        text = path.read_text(encoding="utf-8")
        reader = create_nb_reader(str(path), env.myst_config, env.mystnb_config, text)
        if reader is not None:
            found.append((path.suffix == ".md", -len(text), path, reader.read_fmt))
    return [(path, read_fmt) for *_, path, read_fmt in sorted(found)]


class OneByOne(JupyterExecutorLocalMproc):
    """jupyter-cache's parallel executor, which hands several pages at a time to a process: the last has several left when the
    others have none. Here whoever is free takes the next page."""

    def run_and_cache(self, *, timeout, allow_errors):
        """Run every page of the project."""
        pages = [ProcessData(own.pk, own.uri, self.cache, timeout, allow_errors) for own in self.get_records()]
        with multiprocessing.Pool() as pool:
            pool.map(self._EXECUTION_WORKER(), pages, chunksize=1)


def run_notebooks(app, env, added, changed, removed):
    """Empty the cache and fill it again."""
    config = env.mystnb_config
    if config.execution_mode != "cache":
        return []
    pages = notebooks(app, env)
    cache = get_cache(config.execution_cache_path)
    cache.clear_cache()
    for path, read_fmt in pages:
        cache.add_nb_to_project(str(path), **({"read_data": read_fmt} if read_fmt else {}))
    sphinx_logging.getLogger(__name__).info("running %d notebooks beside each other", len(pages))
    multiprocessing.get_logger().setLevel(logging.CRITICAL)  # a page that fails runs again, and Sphinx says how
    with tempfile.TemporaryDirectory() as folder, offered(folder):
        os.environ[kept.FOLDER] = str(Path(folder, "kept"))
        try:
            OneByOne(cache, logging.getLogger("book_notebooks.executor")).run_and_cache(
                timeout=config.execution_timeout, allow_errors=config.execution_allow_errors
            )
        finally:
            del os.environ[kept.FOLDER]
    return []


def setup(app):
    """Register with Sphinx."""
    # A kernel a core, so a thread a kernel: more would wait for each other, and numbers would depend on the machine's cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    app.connect("env-get-outdated", run_notebooks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

"""What several pages compute from the same arguments, computed once a build.

Every page is a process of its own. While the book is built they share a folder, named by ``NAS_KEPT``, which is empty when the
build begins; what is :func:`kept` there was computed by this build. Without the folder nothing is kept.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from joblib import Memory

FOLDER = "NAS_KEPT"

Given = ParamSpec("Given")
Found = TypeVar("Found")


def kept(function: Callable[Given, Found]) -> Callable[Given, Found]:
    """``function``, whose result depends on its arguments alone, so that another page of the same build may have it."""

    @functools.wraps(function)
    def found(*args: Given.args, **kwargs: Given.kwargs) -> Found:
        folder = os.environ.get(FOLDER)
        return Memory(folder, verbose=0).cache(function)(*args, **kwargs) if folder else function(*args, **kwargs)

    return found

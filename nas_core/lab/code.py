"""The code a result rests on, as twelve hexadecimal digits.

A fingerprint covers a module and every module of the same package that it imports, directly or not, found by reading
the sources and never by importing them. It sees statements only: comments, docstrings and layout do not count. Modules
that are imported by a computed name (`importlib.import_module(text)`) cannot be seen.
"""

import ast
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

DIGITS = 12
_LOADED_AS = "__fingerprint__"  # written on a module: the fingerprint that it had when this process first saw it


class LabError(RuntimeError):
    """Something that the lab cannot do, said in a sentence that a reader can act on."""


def fingerprint(module_name: str) -> str:
    """12 hex digits of the sha256 over the statements of `module_name` and all it imports from its own package.

    A page asks for it a thousand times, so the sources are read again only when one of them was touched. Raises LabError
    when a source cannot be found or does not parse.
    """
    key = (module_name, _locate(module_name.split(".")[0]))  # a package of the same name may come from elsewhere
    known = _KNOWN.get(key)
    if known is not None and known[1] is not None and known[1] == stamps(known[0]):
        return known[2]
    found = sources(module_name)
    # Folders as well: a file that is added may be what an import finds from then on.
    watched = tuple(sorted({*found.values(), *(path.parent for path in found.values())}))
    before = stamps(watched)
    digest = hashlib.sha256()
    for name, path in found.items():
        digest.update(f"{name}\n{_parsed(name, path)[0]}\n".encode())
    digits = digest.hexdigest()[:DIGITS]
    _KNOWN[key] = (watched, before, digits)
    return digits


_KNOWN: dict[tuple[str, Path | None], tuple[tuple[Path, ...], tuple | None, str]] = {}
"""What was read, its stamps at that time, and the digits."""

SETTLED_NS = 2_000_000_000


def stamps(paths: Iterable[Path]) -> tuple | None:
    """What a change of one of `paths` changes: the time of the last change, the size and the inode of each.

    None where one is gone, or was changed so lately that a second change within the clock's tick could not be told.
    """
    try:
        found = tuple((own.st_ctime_ns, own.st_size, own.st_ino) for own in map(os.stat, paths))
    except OSError:
        return None
    settled = time.time_ns() - SETTLED_NS
    return found if all(changed < settled for changed, *_ in found) else None


def sources(module_name: str) -> dict[str, Path]:
    """Name -> file of `module_name` and everything it imports from its own package, sorted by name."""
    found: dict[str, Path] = {}
    waiting = [module_name]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = _locate(name)
        if path is None:
            raise LabError(f"There is no source of the module {name!r}, so it has no fingerprint; check the name.")
        found[name] = path
        waiting += _parents(name)
        waiting += [target for target in _parsed(name, path)[1] if _locate(target) is not None]
    return dict(sorted(found.items()))


def load(module_name: str, code: str) -> ModuleType:
    """Import `module_name` and make sure that what this process has loaded is what `code` names.

    A process keeps the code that it loaded first, while the sources on the disk move on: without this check an edited
    file would lend its fingerprint to the old code's numbers. Raises LabError when the two differ.
    """
    module = importlib.import_module(module_name)
    remember(module_name)
    if getattr(module, _LOADED_AS) != code:
        raise LabError(
            f"The code of {module_name} was edited after this process had loaded it, so a result could not be told "
            "from one of the new code; restart the process (in a notebook: the kernel) and run it again."
        )
    return module


def remember(module_name: str) -> None:
    """Note the present fingerprint on `module_name` if this process has loaded it and no note is there yet."""
    module = sys.modules.get(module_name)
    if module is not None and not hasattr(module, _LOADED_AS):
        setattr(module, _LOADED_AS, fingerprint(module_name))


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _locate(name: str) -> Path | None:
    """The source of a module. Only its top package is looked up: for a deeper name `find_spec` imports the parents."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module without a spec, such as __main__
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        stem = Path(folder, *rest)
        for path in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
            if path.is_file():
                return path
    return None


def _parsed(name: str, path: Path) -> tuple[str, tuple[str, ...]]:
    """Canonical statements of a source, and the modules of its own package that it may import."""
    try:
        return _parse(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")
    except (OSError, SyntaxError, ValueError) as error:
        raise LabError(f"The source {path} cannot be read as Python ({error}); repair it first.") from error


@functools.lru_cache(maxsize=256)  # keyed by the text itself, so an edit is always seen
def _parse(text: str, name: str, is_package: bool) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(text)
    imported = tuple(sorted(set(_imports(tree, name, is_package))))
    _strip_docstrings(tree)
    return _canonical(tree), imported


def _imports(tree: ast.AST, name: str, is_package: bool) -> Iterator[str]:
    top = name.split(".")[0]
    for node in ast.walk(tree):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, name, is_package)
            targets = [base] + [f"{base}.{alias.name}" for alias in node.names]  # the name may be a module or not
        yield from (target for target in targets if target.split(".")[0] == top)


def _base(node: ast.ImportFrom, name: str, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    package = name.split(".") if is_package else name.split(".")[:-1]
    kept = package[: len(package) - (node.level - 1)]
    return ".".join(kept + ([node.module] if node.module else []))


def _strip_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                del node.body[0]


def _canonical(node: object) -> str:
    """Like `ast.dump`, but the same text under every Python: newer ones add fields, which are empty for older code."""
    if isinstance(node, ast.AST):
        fields = {field: getattr(node, field, None) for field in node._fields if field not in ("kind", "type_comment")}
        kept = (f"{field}={_canonical(value)}" for field, value in fields.items() if value is not None and value != [])
        return f"{type(node).__name__}({','.join(kept)})"
    if isinstance(node, list):
        return f"[{','.join(map(_canonical, node))}]"
    return repr(node)

"""The library without the repository: what the wheel and the sdist hold, what it needs, and that it runs elsewhere."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "nas_core").rglob("*.py"))
IMPORTED_AS = {"scikit-learn": "sklearn", "pillow": "PIL", "pyyaml": "yaml"}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the wheel and the sdist, built from a copy without the network, and without whatever lies around."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT / "nas_core", folder / "nas_core", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """The wheel as pip lays it out: its files, unpacked, in a folder of their own."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = built.glob("*.whl")
    shutil.unpack_archive(wheel, folder, "zip")
    return folder


def test_wheel_and_sdist_hold_every_module_and_nothing_of_the_repository(built):
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted([*MODULES, "nas_core/py.typed"])
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert {*MODULES, "nas_core/py.typed", "pyproject.toml", "README.md", "LICENSE"} <= packed
    assert not [name for name in packed if name.split("/")[0] in ("book", "tests", "results", "benchmarks")]


def third_party() -> set[str]:
    """The packages that nas_core imports, by the name of the import."""
    found = set()
    for name in MODULES:
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"nas_core"}


def test_everything_imported_is_named_as_a_dependency():
    given = [*PROJECT["dependencies"], *(need for extra in PROJECT["optional-dependencies"].values() for need in extra)]
    names = {re.split(r"[<>=!~\[ ]", need)[0].lower() for need in given}
    assert third_party() <= {IMPORTED_AS.get(name, name) for name in names}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-c", "import nas_core, pathlib; print(pathlib.Path(nas_core.__file__).parent.parent)"], "installed"),
        (["-m", "nas_core", "audit", "--help"], "module:Class"),
        (["-m", "nas_core.lab"], "Recorded results: none yet"),
        (["-c", "from nas_core.lab.store import Store; print(Store().root)"], "elsewhere"),
    ],
    ids=["import", "audit", "lab", "results-of-the-folder"],
)
def test_installed_library_runs_in_any_folder(installed, tmp_path, arguments, said):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    # -S leaves out the editable install of the repository; the dependencies are those of this environment.
    path = os.pathsep.join([str(installed), sysconfig.get_path("purelib")])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NAS_")} | {"PYTHONPATH": path}
    command = [sys.executable, "-S", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert said in done.stdout and str(ROOT) not in done.stdout and list(folder.iterdir()) == []

"""What a user reaches from ``import nas_core`` alone, in a fresh interpreter, in whatever order it is imported."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    "lines",
    [
        "import nas_core; own = nas_core.audit",
        "import nas_core.audit; own = nas_core.audit",
        "from nas_core.audit import audit as own; import nas_core; assert nas_core.audit.audit is own",
        "from nas_core import audit as own",
    ],
)
def test_audit_can_be_called_however_it_is_imported(lines):
    call = "own(lambda cell, seed: np.stack([np.array(cell.mask()) / 8.0] * 3), seeds=[0])"
    program = (
        f"import numpy as np; {lines}; print({call}.name, nas_core.audit.LEVELS if 'nas_core' in globals() else '')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]


def test_importing_the_library_imports_nothing_else():
    program = "import sys, nas_core; sys.exit('torch' in sys.modules or hasattr(nas_core, 'no_such_name'))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0

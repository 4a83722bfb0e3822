"""Torch's libraries are linked before Python imports them, and the import takes what is linked."""

from __future__ import annotations

import subprocess
import sys

LINK = """
import sys
from engine.runtime.heavy import _link_torch
def linked():
    return [line for line in open("/proc/self/maps") if "libtorch_cpu" in line]
assert not linked()
_link_torch()
assert linked() and "torch" not in sys.modules
before = len({line.split()[-1] for line in linked()})
import torch
assert len({line.split()[-1] for line in linked()}) == before == 1
assert torch.ones(2, 2).matmul(torch.ones(2, 2)).sum() == 8
"""


def test_torch_is_linked_before_it_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", LINK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

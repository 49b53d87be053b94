"""The notebooks run from top to bottom and show something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.notebooks import NOTEBOOKS, execute

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's own libraries
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path: Path) -> None:
    """Every cell of the notebook executes, and at least one shows a picture."""
    shown = {
        mime
        for cell in execute(path).cells
        for output in cell.get("outputs", ())
        for mime in output.get("data", ())
    }
    assert "image/png" in shown

"""Execute the notebooks: in place for readers (``make notebooks``), and in the tests as a proof."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOKS = tuple(sorted((ROOT / "notebooks").glob("*.ipynb")))


def execute(path: Path) -> nbformat.NotebookNode:
    """Return the notebook at `path` with the outputs of a fresh kernel; a failing cell raises."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": ROOT}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # time stamps would change with every run
    return notebook


def main() -> None:
    """Write every notebook back with fresh outputs."""
    for path in NOTEBOOKS:
        nbformat.write(execute(path), path)


if __name__ == "__main__":
    main()

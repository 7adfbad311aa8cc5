"""Executes notebooks from top to bottom, as Jupyter does, and says how many charts each drew.

usage: notebooks.py FOLDER NOTEBOOK…    charts go to FOLDER as PNG, executed notebooks beside them
"""

import asyncio
import base64
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


async def execute(place, folder, turn):
    async with turn:
        notebook = nbformat.read(place, as_version=4)
        nbformat.validate(notebook)
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
        where = {"metadata": {"path": str(place.parent)}}
        client = NotebookClient(notebook, timeout=300, startup_timeout=300, resources=where)
        await client.async_execute()
        charts = 0
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                image = output.get("data", {}).get("image/png")
                if image:
                    charts += 1
                    (folder / f"{place.stem}.{charts}.png").write_bytes(base64.b64decode(image))
        nbformat.write(notebook, folder / place.name)
        print(f"{place.stem} {charts}")


async def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    turn = asyncio.Semaphore(2)
    names = sys.argv[2:]
    done = await asyncio.gather(*(execute(Path(name), folder, turn) for name in names), return_exceptions=True)
    wrong = [(name, error) for name, error in zip(names, done) if error]
    for name, error in wrong:
        print(f"{name}: {error}", file=sys.stderr)
    sys.exit(bool(wrong))


# No cell of ours needs a display, nor the fonts of one.
os.environ.setdefault("MPLCONFIGDIR", str(Path(sys.argv[1]) / ".matplotlib"))
asyncio.run(main())

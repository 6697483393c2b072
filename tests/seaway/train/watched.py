"""Trains as `python -m seaway.train` does, and writes to $WATCHED/<rank>.json which images this process trained
on, step by step, and which files and folders it made or changed, where they are under $WATCHED."""

import hashlib
import json
import os
import sys
from pathlib import Path

from seaway.train import loop
from seaway.train.__main__ import main

folder = Path(os.environ["WATCHED"])
steps, changed = [], set()


def note_changes(event, args):
    if event == "open":
        _, mode, flags = args
        if not (set(mode or "") & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR)):
            return
    elif event not in ("os.mkdir", "os.rename", "os.remove", "shutil.rmtree"):
        return
    if isinstance(args[0], str | Path) and Path(args[0]).is_relative_to(folder):
        changed.add(str(Path(args[0]).relative_to(folder)))


def note_images(images):
    steps.append([hashlib.sha256(image.tobytes()).hexdigest() for image in images])
    return to_batch(images)


to_batch, loop.to_batch = loop.to_batch, note_images
sys.addaudithook(note_changes)
try:
    main()
finally:
    found = {"steps": steps, "changed": sorted(changed)}
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(found))

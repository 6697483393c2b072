"""Environments of their own for what cannot stand beside the project's packages: made once, kept in .seaway/bench."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".seaway" / "bench"


def python(name: str) -> Path:
    """The interpreter of the environment that requirements/<name>.txt locks; made anew where the lock has changed."""
    lock, folder = ROOT / "requirements" / f"{name}.txt", HOME / f"venv-{name}"
    interpreter, kept = folder / "bin" / "python", folder / lock.name
    if not kept.exists() or kept.read_bytes() != lock.read_bytes():
        print(f"making {folder} from {lock.relative_to(ROOT)}", file=sys.stderr, flush=True)
        uv = str(Path(sys.executable).with_name("uv"))
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        command = [uv, "pip", "sync", "--quiet", "--python", str(interpreter), "--require-hashes", str(lock)]
        subprocess.run(command, check=True)
        shutil.copy(lock, kept)
    return interpreter

"""Virtual environments for packages that conflict with the project's: created once, kept in .seaway/bench."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".seaway" / "bench"


def python(name: str) -> Path:
    """The interpreter of the environment that requirements/<name>.txt locks; recreated if the lock has changed."""
    lock, folder = ROOT / "requirements" / f"{name}.txt", HOME / f"venv-{name}"
    interpreter, installed_lock = folder / "bin" / "python", folder / lock.name
    if not installed_lock.exists() or installed_lock.read_bytes() != lock.read_bytes():
        print(f"creating {folder} from {lock.relative_to(ROOT)}", file=sys.stderr, flush=True)
        uv = str(Path(sys.executable).with_name("uv"))
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        command = [uv, "pip", "sync", "--quiet", "--python", str(interpreter), "--require-hashes", str(lock)]
        subprocess.run(command, check=True)
        shutil.copy(lock, installed_lock)
    return interpreter

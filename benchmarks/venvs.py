"""Virtual environments for packages that conflict with the project's: created once, kept in .seaway/bench."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".seaway" / "bench"


def python(name: str, *, beside_project: bool = False) -> Path:
    """The interpreter of the environment that requirements/<name>.txt locks; recreated if the lock has changed.

    `beside_project`: the lock only has what the project's own environment lacks, whose packages are seen as well.
    """
    lock, folder = ROOT / "requirements" / f"{name}.txt", HOME / f"venv-{name}"
    interpreter, installed_lock = folder / "bin" / "python", folder / lock.name
    if not installed_lock.exists() or installed_lock.read_bytes() != lock.read_bytes():
        print(f"creating {folder} from {lock.relative_to(ROOT)}", file=sys.stderr, flush=True)
        uv = str(Path(sys.executable).with_name("uv"))
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        command = [uv, "pip", "sync", "--quiet", "--python", str(interpreter), "--require-hashes", str(lock)]
        subprocess.run(command, check=True)
        if beside_project:
            (site_packages,) = folder.glob("lib/python*/site-packages")
            (site_packages / "project.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        shutil.copy(lock, installed_lock)
    return interpreter

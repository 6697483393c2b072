"""gRPC with real clients, whose messages import TensorFlow: in a process of their own, because PyTorch's torch.export
crashes in one with TensorFlow."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = (HERE / "beside_tensorflow_grpc.py", HERE.parent / "protocols" / "beside_tensorflow_messages.py")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_beside_tensorflow(file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout

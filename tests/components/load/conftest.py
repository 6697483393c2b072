import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "loadtest"))  # toy.py and responder.py, without a package named tests

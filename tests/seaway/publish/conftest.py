import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "load"))  # toy.py and responder.py, without a package named tests

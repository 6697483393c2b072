import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # for graphs.py and the like, without a package named tests

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # rendered.py, restricted.py and promql.py, without a package named tests

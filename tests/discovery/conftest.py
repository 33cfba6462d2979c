"""Lets the tests of discovery share the made-up shop beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

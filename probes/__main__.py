"""``python -m probes``."""

import os
import sys

from probes.command import main

try:
    code = main()
    sys.stdout.flush()
except BrokenPipeError:  # whoever read the output has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    code = 0
sys.exit(code)

"""``python -m probes``."""

from model_zoo.command_line import leave
from probes.core.command import main

leave(main)

"""``python -m probes``."""

from model_zoo.command_line import leave
from probes.command import main

leave(main)

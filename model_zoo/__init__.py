"""Models: what there is, how each is loaded, and what each provides."""

import os

# Read by huggingface_hub when it is imported. Nothing is asked of the hub but the weights; plain HTTP tells its
# progress by the byte and goes on where it broke off; a silent connection is given up early enough to try again.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "3")

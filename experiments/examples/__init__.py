"""Examples, each a file to read and to run: the environments with libraries of reinforcement learning, and the scripts of the gallery."""

import cfisac_env  # noqa: F401  (registers the environments; missing packages are reported with their extra)

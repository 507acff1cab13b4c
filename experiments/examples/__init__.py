"""Examples: the environments with libraries of reinforcement learning, each a file to read and to run."""

import cfisac_env  # noqa: F401  (registers the environments; missing packages are reported with their extra)

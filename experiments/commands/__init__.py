"""Subcommands of `cfisac`: their options and output. They import their computations when they run."""

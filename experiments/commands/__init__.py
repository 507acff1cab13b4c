"""The subcommands of `cfisac`: what each takes and prints. What they compute is elsewhere and imported when they run."""

"""The paper's tables and figures measured again, and its errata measured once."""

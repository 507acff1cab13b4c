"""Agent for `CfIsacMobile-v0`: a learned value of sets of APs over forecasts, its training, and its files."""

"""A protocol for comparing policies of any kind: tiers of test drops, scores relative to a rule and the best known, a leaderboard."""

"""How far a single prediction can be trusted: sets and intervals that hold the truth as often as they say."""

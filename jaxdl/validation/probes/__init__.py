"""Heads on frozen features: fitted to the optimum over penalties and folds, in seconds."""

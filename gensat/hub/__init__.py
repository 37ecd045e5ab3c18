"""Model specs, the registry of models, and readers of weights."""

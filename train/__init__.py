"""Data, recipes and training loops; run as ``python -m gensat.train.NAME``."""

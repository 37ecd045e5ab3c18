"""The core loop and what it stands on: guidance, noise, windows, codec, precision."""

"""Small tileable photographic textures for the procedural streets; README.md names the source and licence of each."""

"""Small inputs that the documentation and the demo run on."""

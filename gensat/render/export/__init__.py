"""Scenes, splats and views as files that other programs open; every file says where its origin lies and in which CRS."""

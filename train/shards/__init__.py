"""Training data in shards: packed (:mod:`pack`), checked (:mod:`check`) and read (:class:`ShardReader`). Imports no torch."""

from .index import Entry, Index, find_shards, open_index
from .reader import ShardReader, stream

__all__ = ["Entry", "Index", "ShardReader", "find_shards", "open_index", "stream"]

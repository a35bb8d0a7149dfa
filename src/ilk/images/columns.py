"""The names by which columns of tables are recognised, whatever their case."""

from __future__ import annotations

# In a table beside the images, of labels or embeddings: which image a row is for. The first of these that is there.
ID_COLUMNS = ("id", "path", "filename", "file_name", "file", "image", "image_id")
# In a table that holds the images themselves: what names a row. Tried in this order, until one has no gaps and
# no repeats. Not `image`, which holds pixels.
OWN_ID_COLUMNS = ("id", "image_id", "filename", "file_name", "path", "name")
LABEL_COLUMNS = ("label", "labels", "class", "target", "y")

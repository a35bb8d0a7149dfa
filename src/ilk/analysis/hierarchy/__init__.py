"""How many clusters a collection has, and the tree of finer and coarser clusters, if the number is not given.

`grow_tree` divides the features into many fine clusters, merges these into a tree and scores every number of clusters
without labels; `density_clusters` finds dense clusters and leaves out the images between them. Pure functions of
arrays: no images, no files, no network.
"""

from __future__ import annotations

from ilk.analysis.hierarchy.density import Density, density_clusters
from ilk.analysis.hierarchy.grow import Hierarchy, grow_tree, most_clusters, table
from ilk.analysis.hierarchy.judge import Level

__all__ = ["Density", "Hierarchy", "Level", "density_clusters", "grow_tree", "most_clusters", "table"]

"""How many clusters a collection has, and the tree of finer and coarser ones, when nobody says.

`grow_tree` over-clusters the features, merges the fine clusters into a tree and scores every number of
clusters without labels; `density_clusters` leaves out the images that belong to none. Pure functions of
arrays: no images, no files, no network.
"""

from __future__ import annotations

from ilk.analysis.hierarchy.density import Density, density_clusters
from ilk.analysis.hierarchy.grow import Hierarchy, grow_tree, most_clusters, table
from ilk.analysis.hierarchy.judge import Level

__all__ = ["Density", "Hierarchy", "Level", "density_clusters", "grow_tree", "most_clusters", "table"]

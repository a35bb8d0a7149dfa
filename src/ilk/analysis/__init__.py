"""Arrays in, arrays out: k-means, neighbours, metrics, calibration, the number of clusters, duplicates."""

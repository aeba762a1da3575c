"""k-means: Lloyd's algorithm, mini-batches, the first centers, and how many clusters."""

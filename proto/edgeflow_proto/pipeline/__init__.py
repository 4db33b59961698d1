"""The pipeline document: loading, kinds, checks and the graph."""

"""The central controller: expands caches into one work list per node and sums the nodes' reports up again."""

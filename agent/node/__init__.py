"""The agent of a node: makes its disk hold what its work list names, and tells what is there."""

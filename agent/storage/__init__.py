"""The on-disk store of a node: what is published, what is being staged, what still has readers.

`store.Store` is the only door. Everything in here blocks; the agent calls it through one bounded executor.
"""

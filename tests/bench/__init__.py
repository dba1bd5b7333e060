"""What the project costs and how fast it is, beside its peers."""

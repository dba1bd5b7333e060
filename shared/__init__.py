"""What controller and agent share: the API, the rules both compute identically, the Kubernetes layer, operations."""

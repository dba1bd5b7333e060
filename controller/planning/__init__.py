"""Pure decisions of the controller: work lists and statuses from one snapshot of the world."""

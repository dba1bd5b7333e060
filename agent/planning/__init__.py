"""Pure decisions of the agent: what to fetch, verify, adopt or evict, and when to try again."""

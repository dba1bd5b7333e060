"""Rules that controller and agent must compute identically. Pure: no I/O, clock, randomness, logging or asyncio."""

"""Operations: settings, logging, metrics, the health server and the process lifecycle."""

"""Replay: captured or plain log files through the same stages as live, in one process."""

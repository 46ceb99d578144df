"""The commands, a module each: check (may the daemon start?) and clean (remove what it left in shared memory)."""

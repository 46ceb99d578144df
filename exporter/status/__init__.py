"""The pages /stats and /health about the daemon itself."""

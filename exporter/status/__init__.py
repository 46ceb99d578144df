"""What the exporter says about the daemon: /stats and the largest metrics and labels."""

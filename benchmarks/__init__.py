"""What things cost, measured on real processes. Timings live here and in docs/performance.md, never in tests."""

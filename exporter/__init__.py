"""What runs once per host: maps every ring read-only, aggregates with numpy, serves Prometheus."""

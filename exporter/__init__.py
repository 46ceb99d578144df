"""What runs once per host: reads every ring, aggregates with numpy, serves Prometheus."""

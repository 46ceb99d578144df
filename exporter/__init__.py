"""The exporter process, one per host: reads every ring, aggregates with numpy, serves Prometheus."""

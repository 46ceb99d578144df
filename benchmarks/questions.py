"""The questions, one module each, in the order of benchmarks/LOG.md."""

QUESTIONS = {
    "append": "P1: what a frame costs its collector",
    "scrape": "P2, P3: what a page of the latest samples costs",
    "windows": "P4, P5: what a page of statistics costs",
    "profile": "P1 to P4: where their time goes",
    "simd": "P6: the same where the processor has no wide registers",
    "isolation": "P7: what a besieged exporter does to the ticks",
    "idle": "P8, P9: what the daemon takes from its host",
    "start": "P10: how long until the first page",
    "growth": "P11: how costs grow",
    "intervals": "what rates Prometheus computes at other intervals than the source's",
    "compression": "P12: what gzip costs",
    "applications": "what the metrics of a program of many processes cost it, and its scraper",
}

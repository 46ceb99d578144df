"""The programs that fogmetrics is compared with. Each runs on free ports of loopback, in a temporary directory."""

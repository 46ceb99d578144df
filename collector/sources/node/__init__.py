"""The source node: processor, memory, disks and network of this host."""

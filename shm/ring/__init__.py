"""One ring: its bytes, its one writer, its readers.

Read protocol first: it is the specification. Then layout and frame; writer appends, reader and windows read; segment
and lifecycle say how a segment begins; disk_copy and discovery.
"""

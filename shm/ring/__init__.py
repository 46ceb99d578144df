"""One ring: its bytes, its writer, its readers.

Read protocol first: it is the specification. Then layout and frame; writer appends, reader and windows read; segment
and lifecycle create and resume a segment; disk_copy takes snapshots, discovery lists /dev/shm.
"""

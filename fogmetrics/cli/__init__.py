"""The command ``fogmetrics``: ``main`` finds the command's module, and each command is a module with ``main()``.

``directory`` knows the files of a daemon's directory.
"""

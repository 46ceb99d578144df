"""Tables: the values of an application's many processes, a table each.

Read format first; process and cells write, reader reads, descriptors opens and removes, dead folds the tables of ended
processes, merge adds all up.
"""

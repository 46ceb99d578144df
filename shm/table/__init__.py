"""Tables: the current values of an application's processes, one table per process.

Read format first; process and cells write, reader reads, descriptors opens and removes files, dead folds the tables of
ended processes into one, removal removes series from all processes, plan and merge combine all tables.
"""

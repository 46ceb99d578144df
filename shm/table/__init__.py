"""TODO shm/table"""

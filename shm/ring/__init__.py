"""TODO shm/ring"""

"""TODO collector/sources/betanet"""

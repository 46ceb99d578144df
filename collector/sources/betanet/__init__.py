"""The source betanet: client asks its endpoints, reply reads the answers, breaker spares an endpoint that fails."""

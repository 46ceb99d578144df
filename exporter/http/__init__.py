"""HTTP: the server, its address and limits, request parameters and content negotiation."""

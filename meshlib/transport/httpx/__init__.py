"""The door for httpx and httpx2: transports, clients, exceptions."""

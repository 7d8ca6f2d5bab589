"""What accepts connections of servers: TLS and plain text on one port, `meshlib serve`, hooks for servers of others."""

"""Who this process is: its certificate and the roots it trusts, as they are now, wherever they come from."""

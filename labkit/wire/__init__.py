"""What crosses the network, recorded as packets. It knows nothing of mail."""

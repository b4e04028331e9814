"""TLS as an eavesdropper sees it, octet by octet, and as its two ends do, where there is a key log."""

"""The mail service: who may send, who may read. It knows nothing of the wire."""

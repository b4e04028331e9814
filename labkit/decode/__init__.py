"""What the bytes mean, and what they give away. It knows only the wire, as an eavesdropper does."""

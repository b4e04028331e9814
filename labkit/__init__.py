"""labkit: real mail sessions on your own machine, seen as an eavesdropper sees them."""

__version__ = "0.1.0"

"""What the edition in a browser tab is built from and with. Nothing of it is in the wheel that people install."""

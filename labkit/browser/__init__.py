"""The browser edition: what the platform of a browser tab lacks. Desktop Python never imports it."""

"""labkit.browser.tls against OpenSSL: whatever two ends of OpenSSL say to each other, ours says and hears the same."""

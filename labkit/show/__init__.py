"""What a person looks at: text, static HTML and figures drawn from what `decode` says."""

"""Code sound without loss: files to streams that an adaptive model makes small, and back."""

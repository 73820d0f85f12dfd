"""`netinv explore RUN`: a local page that explores a finished inversion."""

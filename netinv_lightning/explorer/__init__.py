"""`netinv explore RUN`: a local page to play with a finished inversion."""

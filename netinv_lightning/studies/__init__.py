"""What is asked of the features of inverted images (S2 section 5.1), a question a file; the mathematics is in interpretation/."""

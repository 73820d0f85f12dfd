"""What inverted images are good for: a student without data, counterfeits, fine-tuning (S3 Applications; A4-12, A4-13, A4-14)."""

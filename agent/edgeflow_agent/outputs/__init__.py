"""What is made of rows at the ends of a pipeline."""

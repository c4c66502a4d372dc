"""CSV, TSV and white space: what is a number, what a label, what a comment."""

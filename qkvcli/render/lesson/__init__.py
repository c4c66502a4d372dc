"""A page to keep: one file of HTML that computes attention again, and explains it."""

"""Files and streams to arrays, and back."""

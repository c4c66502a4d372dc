"""Results to what a person reads; nothing here prints."""

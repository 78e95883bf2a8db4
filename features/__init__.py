"""What we know of a user at a moment."""

"""What the held-out predictions say, and how sure it is."""

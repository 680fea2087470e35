"""The page of films, and its private parts."""

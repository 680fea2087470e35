"""One file per page; each holds a ``PAGE`` and what it draws."""

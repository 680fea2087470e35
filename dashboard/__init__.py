"""The dashboard: pages that put several vision models side by side."""

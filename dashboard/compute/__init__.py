"""Work off the script thread: requests, jobs, results."""

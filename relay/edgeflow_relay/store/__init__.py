"""What the relay keeps: SQL for all that is asked for by name, a folder for blobs."""

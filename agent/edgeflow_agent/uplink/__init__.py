"""The way to the relay: events up, wishes down, over one stream that may be away for as long as it likes."""

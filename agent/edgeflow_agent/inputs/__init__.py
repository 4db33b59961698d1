"""Where rows come from: the input kinds at work, and what turns their payloads into rows."""

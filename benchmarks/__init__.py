"""Speed and memory as ratios against a bare limit or a peer, measured in the same run."""

"""What runs once per source: takes samples each interval and appends them, as one frame, to a ring."""

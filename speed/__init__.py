"""Kafka to Storm to speed views: every event in the merged views within a fraction of a second, counted once."""

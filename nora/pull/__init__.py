"""Pull-through: storage and upstream brought together. Freshness of tags, fills and their followers."""

"""A live model that changes mode without a copy."""

"""What a look at the weights alone tells of an update."""

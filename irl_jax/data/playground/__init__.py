"""The playground: a generated world of comments whose true labels are known."""

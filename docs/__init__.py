"""Documents for people, and what generates the references among them."""

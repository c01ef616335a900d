"""What is written for people, held to what is there: examples run, links lead somewhere."""

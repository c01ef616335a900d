"""What is told of requests: to the metrics (`tally`), to the access log (`accesslog`).

Knows the grammar and what a conversation is. Begin with `record`, which follows one connection.
"""

"""What every route shares: middleware, tokens, problem details, paging and content negotiation."""

"""The Trader API: one bearer token for one account, keyed orders, problem objects instead of refusals in 200."""

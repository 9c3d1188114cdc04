"""Every decision, as pure functions of values: `now_s` comes in, a value with its reason comes out."""

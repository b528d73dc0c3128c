"""How long things are (prompts, answers, sessions, thoughts), one file each: ``draw(n, rng, **how) -> values`` (n,)."""

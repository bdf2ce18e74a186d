"""Routing strategies in virtual time: worlds made of parts, contenders under one clock, and what they cost.

How the parts hang together, each in its own module::

    sizes, arrivals ──► workload: one list of calls per world and seed, the same for every contender
    servers, gates, faults ──► worlds: what answers the calls, and what goes wrong when
    baselines, oracle, litellm_handlers ──► contenders: who picks
    router: one simulated router (cooldown, retries, resilience) between a strategy and the servers
    fleet: several of them, and the state they share
    runner: one contender in one world with one seed ──► metrics ──► report, plots

Nothing here reads a wall clock, and every random number comes from a seeded ``random.Random``,
so a figure can be asserted.
"""

"""One framework a module. Each translates what its framework has into the bus's words, and holds no policy.

Importing this imports no framework; each module imports its own.
"""

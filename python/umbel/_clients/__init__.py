"""What the functions of an application are given: requests, identities, clients, messages, runs."""

"""How fast stepfit is beside its peers: `make bench` measures, RESULTS.md keeps what came out."""

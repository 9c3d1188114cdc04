"""From sightings to one vote a vehicle: association, voting, and a grammar that re-ranks. Values only, no I/O."""
